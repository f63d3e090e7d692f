#!/usr/bin/env bash
# Stops the server that `make demo` started: SIGTERM, which lets running statements end, then waits.
set -euo pipefail
data=${SQUILLA_DATA:-${XDG_DATA_HOME:-$HOME/.local/share}/squilla}
pid_file=$data/demo.pid
if [ ! -s "$pid_file" ] || ! kill -0 "$(cat "$pid_file")" 2>/dev/null; then
  echo "no server of make demo is running"
  rm -f "$pid_file"
  exit 0
fi
pid=$(cat "$pid_file")
kill -TERM "$pid"
for _ in $(seq 300); do
  kill -0 "$pid" 2>/dev/null || { rm -f "$pid_file"; echo "stopped"; exit 0; }
  sleep 0.1
done
echo "error: process $pid did not stop within 30 s" >&2
exit 1
