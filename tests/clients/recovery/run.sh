#!/usr/bin/env bash
# The rows of a table without the server: the Python program of docs/tables.md over a data directory, at two snapshots.
set -euo pipefail
port=5498
"$SQUILLA_BINARY" serve --listen 127.0.0.1:$port --http-listen off --data-dir data >server.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
ask() { psql -XqAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p $port "$@"; }
for _ in $(seq 100); do ask -c 'select 1' >/dev/null 2>&1 && break; sleep 0.1; done

# Rows in files and in the catalog; deleted rows in both; a column that was renamed and one that came later.
ask -c 'create table kept (id int primary key, name text, price numeric(10,2), at timestamptz)' \
  -c "insert into kept select i, 'name ' || i, i * 0.25, '2026-11-20 12:00+00'::timestamptz + i * interval '1 minute' from generate_series(1, 5000) i" \
  -c "insert into kept values (5001, 'inline', 1.50, '2026-11-21 12:00+00'), (5002, NULL, NULL, NULL)" \
  -c 'delete from kept where id % 7 = 0' -c 'delete from kept where id = 5002' \
  -c 'alter table kept rename column name to called' -c 'alter table kept add column more int' \
  -c "update kept set called = 'new', more = id where id < 4"
oid=$(ask -c "select 'kept'::regclass::oid")
then=$(ask -c "select max(version) from table_versions('kept')")
ask -c "select id, coalesce(called, 'NULL'), coalesce(price::text, 'NULL'), coalesce(more::text, 'NULL') from kept order by id" >then.rows
ask -c 'delete from kept where id > 100' -c "insert into kept values (9000, 'later', 9, now(), 9)"
now=$(ask -c "select max(version) from table_versions('kept')")
ask -c "select id, coalesce(called, 'NULL'), coalesce(price::text, 'NULL'), coalesce(more::text, 'NULL') from kept order by id" >now.rows
kill $server
wait $server || true

for at in "$then" "$now"; do
  [ "$at" = "$now" ] && expected=now.rows || expected=then.rows
  { awk '/^```python/ { on = 1; next } /^```/ { on = 0 } on' "$SQUILLA_DOCS/tables.md" | sed "s/16500/$oid/g; s/ at, parts = \(.*\), 40, \[\]/ at, parts = \1, $at, []/"
    cat <<'PYTHON'
import json
body = json.loads(catalog.execute("SELECT body FROM relation_now WHERE oid = ?", (OID,)).fetchone()[0])
physical = {c["name"]: c.get("physical") or c["name"] for c in body["columns"]}
for row in sorted(table.to_pylist(), key=lambda r: r["id"]):
    values = [row[physical[name]] for name in ("id", "called", "price", "more")]
    print("|".join("NULL" if v is None else str(v) for v in values))
PYTHON
  } | sed "s/OID,/$oid,/" >recover.py
  "$CLIENT_ENV/bin/python" recover.py >found.rows
  diff "$expected" found.rows
done
# The views that the page names.
"$CLIENT_ENV/bin/python" - "$oid" <<'PYTHON'
import sqlite3, sys
catalog = sqlite3.connect("file:data/catalog.sqlite?mode=ro", uri=True)
[(schema, name)] = catalog.execute("SELECT schema_name, name FROM relation_now WHERE oid = ?", (int(sys.argv[1]),))
assert (schema, name) == ("public", "kept")
assert catalog.execute("SELECT sum(rows - deleted_rows) FROM file_now WHERE table_oid = ?", (int(sys.argv[1]),)).fetchone()[0] == 87
PYTHON
