"""Rows per second over the PostgreSQL protocol, and the 22 queries of TPC-H; see `run`.

CPU seconds are those of the server: the whole process of squilla, the one backend of PostgreSQL. The client counts bytes and is
the same for both. Ratios are medians over runs in turn; above 1 squilla is the faster.
"""
import argparse
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import time

from client import Client

HERE, HOME = os.path.dirname(os.path.abspath(__file__)), os.environ["BENCH_HOME"]
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Squilla:
    name = "squilla"

    def __init__(self, data):
        self.port, started = free_port(), time.time()
        self.process = subprocess.Popen([os.environ["SQUILLA_BINARY"], "serve", "--listen", f"127.0.0.1:{self.port}", "--http-listen", "off", "--data-dir", data],
                                        stdout=subprocess.DEVNULL, stderr=open(f"{HOME}/squilla.log", "ab"))
        self.client = connected(self.port, started)

    def cpu(self):
        return cpu(self.process.pid)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


class Postgres:
    name = "postgres"

    def __init__(self, data):
        # The server refuses to run as root.
        self.user = {"user": "nobody"} if os.getuid() == 0 else {}
        self.port, self.data, started = free_port(), data, time.time()
        if not os.path.exists(f"{data}/PG_VERSION"):
            os.makedirs(data, exist_ok=True)
            if self.user:
                shutil.chown(data, "nobody")
            self.run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
        self.process = subprocess.Popen([f"{os.environ['POSTGRES_BIN']}/postgres", "-D", data, "-p", str(self.port), "-k", "", "-c", "shared_buffers=1GB", "-c", "fsync=off"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self.user)
        self.client = connected(self.port, started)

    def run(self, program, *arguments):
        subprocess.run([f"{os.environ['POSTGRES_BIN']}/{program}", *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/", **self.user)

    def cpu(self):
        return cpu(self.client.pid)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def connected(port, started):
    while True:
        try:
            return Client(port)
        except (OSError, SystemExit):
            if time.time() - started > 60:
                raise
            time.sleep(0.1)


def transfers(options):
    engines = [Postgres(f"{HOME}/postgres"), Squilla(f"{HOME}/data")]
    make = f"CREATE TABLE t{options.rows} AS SELECT g AS id, (g % 1000)::int AS k, g * 0.37::float8 AS v, 'row ' || g AS s FROM generate_series(1::bigint, {options.rows}) g"
    for engine in engines:
        if engine.client.rows(f"SELECT count(*) FROM pg_class WHERE relname = 't{options.rows}'")[0][0] == "0":
            engine.client.query(make)
        engine.client.query(f"SELECT sum(k), min(v) FROM t{options.rows}")
    part, columns = min(options.rows, 1_000_000), "id, k, v, s"
    work = []
    if "select" in options.only:
        some = f"SELECT {columns} FROM t{options.rows} LIMIT {part}"
        work += [("SELECT text", lambda c: c.query(some)), ("SELECT binary", lambda c: c.binary(some))]
    if "copy" in options.only:
        copy = f"COPY (SELECT {columns} FROM t{options.rows}) TO STDOUT (FORMAT"
        work += [(f"COPY {f}", lambda c, f=f: c.query(f"{copy} {f})")) for f in ("text", "binary", "csv")]
    for name, call in work:
        found = {engine.name: [] for engine in engines}
        for _ in range(options.runs):
            for engine in engines:
                before, start = engine.cpu(), time.perf_counter()
                size, rows = call(engine.client)
                found[engine.name].append((rows / (time.perf_counter() - start), engine.cpu() - before, size))
        line = [f"{name:14}"]
        for engine in engines:
            speed, used, size = (statistics.median(c) for c in zip(*found[engine.name]))
            line.append(f"{engine.name} {speed / 1e6:5.2f} M rows/s  cpu {used:5.2f} s  {size / 1e6:6.1f} MB ")
        ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in zip(found["squilla"], found["postgres"]))
        print(" ".join(line), f" squilla / postgres {ratio:.2f}", flush=True)
    for engine in engines:
        engine.stop()


def queries():
    return [q.split("\n", 1)[1].strip() for q in open(f"{HERE}/queries.sql").read().split("-- ")[1:]]


def tpch(options):
    engine = Squilla(f"{HOME}/data")
    for table in TABLES:
        engine.client.query(f"DROP TABLE IF EXISTS {table}")
        engine.client.query(f"CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{options.data}/{table}.parquet'")
    embedded = open(f"{HOME}/embedded").read().strip()
    found, counts = {"squilla": [], "datafusion": []}, {}
    for turn in range(options.runs):
        ours = []
        for number, sql in enumerate(queries(), 1):
            before, start = engine.cpu(), time.perf_counter()
            _, rows = engine.client.query(sql.rstrip(";"))
            ours.append((time.perf_counter() - start, engine.cpu() - before))
            counts[number] = rows
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        out = subprocess.run([os.path.join(HERE, "../..", embedded), options.data, f"{HERE}/queries.sql"], check=True, capture_output=True, text=True).stdout
        theirs = [tuple(float(v) for v in line.split()[1:3]) for line in out.splitlines()]
        wanted = {number: int(line.split()[3]) for number, line in enumerate(out.splitlines(), 1)}
        odd = {n: (counts[n], wanted[n]) for n in wanted if counts[n] != wanted[n]}
        if odd:
            raise SystemExit(f"numbers of rows differ, squilla and DataFusion: {odd}")
        found["squilla"].append(ours)
        found["datafusion"].append(theirs)
    print("query  wall: squilla  datafusion   CPU: squilla  datafusion")
    for number in range(22):
        cells = [[statistics.median(run[number][kind] for run in found[e]) for e in found] for kind in (0, 1)]
        print(f"{number + 1:5}  {cells[0][0]:13.3f} {cells[0][1]:11.3f} {cells[1][0]:14.3f} {cells[1][1]:11.3f}")
    for kind, name in enumerate(("wall", "CPU")):
        totals = [[sum(query[kind] for query in run) for run in found[e]] for e in found]
        ratio = statistics.median(a / b for a, b in zip(*totals))
        print(f"total {name}: squilla {statistics.median(totals[0]):.2f} s, DataFusion {statistics.median(totals[1]):.2f} s, squilla / DataFusion {ratio:.3f}")
    engine.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="select,copy,tpch")
    parser.add_argument("--scale", default="1")
    parser.add_argument("--data", required=True)
    options = parser.parse_args()
    options.only = options.only.split(",")
    if {"select", "copy"} & set(options.only):
        transfers(options)
    if "tpch" in options.only:
        tpch(options)


if __name__ == "__main__":
    main()
