"""A client of the PostgreSQL protocol in the standard library: log-in without a password, simple queries, and statements with
parameters as text. For the scripts beside it."""
import socket
import struct


class Failed(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code} {message}")
        self.code = code


class Connection:
    def __init__(self, host, port, user="squilla", database="squilla"):
        self.socket = socket.create_connection((host, port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        options = f"user\0{user}\0database\0{database}\0\0".encode()
        self.socket.sendall(struct.pack("!II", len(options) + 8, 196608) + options)
        self._until_ready()

    def _message(self):
        head = self.file.read(5)
        if len(head) < 5:
            raise ConnectionError("the server closed the connection")
        kind, length = head[:1], struct.unpack("!I", head[1:])[0]
        return kind, self.file.read(length - 4)

    def _until_ready(self):
        rows, error = [], None
        while True:
            kind, body = self._message()
            if kind == b"D":
                rows.append(self._row(body))
            elif kind == b"E":
                fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
                error = Failed(fields.get(b"C", ""), fields.get(b"M", ""))
                if fields.get(b"S") == "FATAL":
                    raise error
            elif kind == b"R" and struct.unpack("!I", body[:4])[0] != 0:
                raise Failed("28000", "the server asks for a password")
            elif kind == b"Z":
                if error:
                    raise error
                return rows

    @staticmethod
    def _row(body):
        values, at = [], 2
        for _ in range(struct.unpack("!H", body[:2])[0]):
            length = struct.unpack("!i", body[at : at + 4])[0]
            at += 4
            values.append(None if length < 0 else body[at : at + length].decode())
            at += max(length, 0)
        return values

    @staticmethod
    def _framed(kind, body):
        return kind + struct.pack("!I", len(body) + 4) + body

    def query(self, sql):
        self.socket.sendall(self._framed(b"Q", sql.encode() + b"\0"))
        return self._until_ready()

    def execute(self, sql, *values):
        given = b"".join(struct.pack("!i", -1) if v is None else struct.pack("!i", len(str(v).encode())) + str(v).encode() for v in values)
        bind = b"\0\0" + struct.pack("!H", 0) + struct.pack("!H", len(values)) + given + struct.pack("!H", 0)
        parse = b"\0" + sql.encode() + b"\0" + struct.pack("!H", 0)
        messages = [(b"P", parse), (b"B", bind), (b"E", b"\0" + struct.pack("!I", 0)), (b"S", b"")]
        self.socket.sendall(b"".join(self._framed(*m) for m in messages))
        return self._until_ready()

    def close(self):
        self.socket.sendall(self._framed(b"X", b""))
        self.socket.close()


def resident(pid, kind="RssAnon"):
    """Resident memory of a process in MiB: what it has allocated (RssAnon), or all of it (VmRSS), pages of its binary included,
    which come in as they are first run."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(kind + ":"))
