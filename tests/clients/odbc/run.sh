#!/usr/bin/env bash
# The program, compiled against unixODBC and run with the PostgreSQL driver by its path.
set -euo pipefail
driver=$(find /usr/lib -name psqlodbcw.so -print -quit)
cc -o program program.c -lodbc
./program "Driver=$driver;Servername=$PGHOST;Port=$PGPORT;Database=$PGDATABASE;Uid=$PGUSER;Pwd=${PGPASSWORD:-};UseDeclareFetch=0"
