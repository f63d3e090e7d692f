"""As much of a PostgreSQL client as a measurement needs: it counts bytes and messages and makes no values of them."""
import socket
import struct


class Client:
    def __init__(self, port, user="postgres", database="postgres"):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.pid = bytearray(1 << 20), 0
        body = struct.pack(">I", 196608) + b"".join(x.encode() + b"\0" for x in ("user", user, "database", database)) + b"\0"
        self.socket.sendall(struct.pack(">I", len(body) + 4) + body)
        data = self.until_ready()
        at = data.find(b"K\0\0\0\x0c")
        self.pid = struct.unpack(">I", data[at + 5:at + 9])[0] if at >= 0 else 0

    def until_ready(self):
        data = b""
        while not (data[-6:-1] == b"Z\0\0\0\5"):
            got = self.socket.recv(1 << 20)
            if not got:
                raise SystemExit(f"the server closed the connection: {data[-300:]!r}")
            data += got
        if data[:1] == b"E" or b"SFATAL" in data:
            raise SystemExit(f"refused: {data[:400]!r}")
        return data

    def send(self, kind, body):
        self.socket.sendall(kind + struct.pack(">I", len(body) + 4) + body)

    def read(self):
        """Bytes of the answer, and rows as its command tag counts them."""
        total, tail, view = 0, b"", memoryview(self.buffer)
        while True:
            got = self.socket.recv_into(view)
            if not got:
                raise SystemExit("the server closed the connection")
            total += got
            tail = (tail + bytes(view[:got]) if got < 256 else bytes(view[got - 256:got]))[-256:]
            if total == got and view[:1] == b"E":
                raise SystemExit(bytes(view[:got]).decode(errors="replace"))
            if tail[-6:-1] == b"Z\0\0\0\5":
                break
        at = tail.rfind(b"C\0\0\0")
        tag = tail[at + 5:].split(b"\0")[0].decode() if at >= 0 else ""
        if not tag:
            raise SystemExit(f"no command tag in {tail!r}")
        return total, int(tag.split()[-1]) if tag.split()[-1].isdigit() else 0

    def query(self, sql):
        self.send(b"Q", sql.encode() + b"\0")
        return self.read()

    def binary(self, sql):
        """The same over Parse, Bind, Execute, with binary values."""
        self.send(b"P", b"\0" + sql.encode() + b"\0" + struct.pack(">H", 0))
        self.send(b"B", b"\0\0" + struct.pack(">HHHH", 0, 0, 1, 1))
        self.send(b"E", b"\0" + struct.pack(">I", 0))
        self.send(b"S", b"")
        return self.read()

    def rows(self, sql):
        """Rows of text, for small answers."""
        self.send(b"Q", sql.encode() + b"\0")
        data, at, out = self.until_ready(), 0, []
        while at < len(data):
            kind, length = data[at:at + 1], struct.unpack(">I", data[at + 1:at + 5])[0]
            if kind == b"E":
                raise RuntimeError(data[at + 5:at + 1 + length].replace(b"\0", b" ").decode(errors="replace"))
            if kind == b"D":
                count, place, row = struct.unpack(">H", data[at + 5:at + 7])[0], at + 7, []
                for _ in range(count):
                    size = struct.unpack(">i", data[place:place + 4])[0]
                    place += 4
                    row.append(None if size < 0 else data[place:place + size].decode())
                    place += max(size, 0)
                out.append(row)
            at += 1 + length
        return out
