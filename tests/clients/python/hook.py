"""What the PostgreSQL hook of an ETL scheduler does: bulk copy both ways, executemany, a cancelled statement."""
import io
import threading
import time

import psycopg2
from psycopg2 import errors
from psycopg2.extras import execute_values

conn = psycopg2.connect("")
conn.autocommit = True
cur = conn.cursor()
cur.execute("DROP TABLE IF EXISTS hook_events")
cur.execute("CREATE TABLE hook_events (id integer, name text, at timestamp, score numeric(8,2))")

# bulk_load, bulk_dump
rows = "".join(f"{i}\tname {i}\t2024-01-01 00:00:{i % 60:02d}\t{i}.25\n" for i in range(1000))
cur.copy_expert("COPY hook_events FROM STDIN", io.StringIO(rows))
assert cur.rowcount == 1000, cur.rowcount
out = io.StringIO()
cur.copy_expert("COPY (SELECT id, name FROM hook_events WHERE id < 3 ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)", out)
assert out.getvalue() == "id,name\n0,name 0\n1,name 1\n2,name 2\n", out.getvalue()

# insert_rows
cur.executemany("INSERT INTO hook_events VALUES (%s, %s, %s, %s)", [(i, None, "2024-06-01", "1.50") for i in range(1000, 1010)])
execute_values(cur, "INSERT INTO hook_events (id, name) VALUES %s", [(i, "v") for i in range(2000, 2100)], page_size=50)
cur.execute("SELECT count(*), count(name), max(score) FROM hook_events")
count, named, score = cur.fetchone()
assert (count, named, str(score)) == (1110, 1100, "999.25"), (count, named, score)

# A statement that is cancelled from another thread leaves a usable connection.
threading.Timer(0.5, conn.cancel).start()
started = time.monotonic()
try:
    cur.execute("SELECT pg_sleep(30)")
    raise AssertionError("not cancelled")
except errors.QueryCanceled:
    assert time.monotonic() - started < 5
cur.execute("SELECT 1")
assert cur.fetchone() == (1,)

# A failed transaction is rolled back as a whole.
conn.autocommit = False
try:
    cur.execute("INSERT INTO hook_events (id) VALUES (1)")
    cur.execute("SELECT 1 / 0")
    raise AssertionError("no error")
except errors.DivisionByZero:
    conn.rollback()
cur.execute("SELECT count(*) FROM hook_events")
assert cur.fetchone() == (1110,), "the rollback undid nothing"
conn.commit()

# What schedulers ask of the catalog.
cur.execute("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'hook_events' ORDER BY ordinal_position")
assert cur.fetchall() == [("id", "integer"), ("name", "text"), ("at", "timestamp without time zone"), ("score", "numeric")]
cur.execute("DROP TABLE hook_events")
conn.commit()
print("ok")
