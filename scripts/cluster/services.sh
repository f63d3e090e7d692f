#!/usr/bin/env bash
# The services of docker-compose.yml without containers: a server and two workers behind deploy/entrypoint.sh, with a token, a
# password and the workers' name in a hosts file of their own; then the four workloads of tests/acceptance.rs against them.
#   scripts/cluster/services.sh [command, instead of the workloads]
# Needs root or unprivileged mount namespaces, psql, and the test binary's needs (ffmpeg, espeak-ng).
set -eu
cd "$(dirname "$0")/../.."
[ "${INSIDE:-}" = 1 ] || INSIDE=1 exec unshare $([ "$(id -u)" = 0 ] && echo -m || echo -rm) "$0" "$@"
cache=${SQUILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/squilla}
squilla=${SQUILLA:-${CARGO_TARGET_DIR:-$cache/target}/release/squilla} port=${PORT:-5785}
export HF_HOME=${HF_HOME:-$cache/hf} SQUILLA_CACHE=$cache SQUILLA_FIXTURES=$PWD/tests/fixtures
scratch=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$scratch"' EXIT
mkdir -p "$scratch/bin" "$scratch/secrets" "$scratch/data"
ln -s "$squilla" "$scratch/bin/squilla"
export PATH=$scratch/bin:$PATH
openssl rand -hex 32 >"$scratch/secrets/token"
openssl rand -hex 16 >"$scratch/secrets/password"
{ cat /etc/hosts; printf '127.0.0.2 worker\n127.0.0.3 worker\n'; } >"$scratch/hosts"
mount --bind "$scratch/hosts" /etc/hosts

export SQUILLA_CLUSTER_TOKEN_FILE=$scratch/secrets/token SQUILLA_DATA_DIR=$scratch/data
for address in 127.0.0.2 127.0.0.3; do
  deploy/entrypoint.sh worker --listen $address:50051 --spill-dir "$scratch/spill" --memory 2GB \
    2>"$scratch/worker-$address.log" &
  pids+=($!)
done
SQUILLA_PASSWORD_FILE=$scratch/secrets/password deploy/entrypoint.sh serve --listen 0.0.0.0:$port --http-listen 127.0.0.1:$((port + 1)) \
  --workers dns://worker:50051 2>"$scratch/server.log" &
pids+=($!)
# The healthcheck of the file.
for _ in $(seq 100); do pg_isready -q -h 127.0.0.1 -p "$port" -U squilla -d squilla && break; sleep 0.2; done
PGPASSWORD=$(cat "$scratch/secrets/password")
export PGPASSWORD
ask() { psql -X -h 127.0.0.1 -p "$port" -U squilla squilla -At -c "$1"; }
for _ in $(seq 50); do [ "$(ask "SELECT count(*) FROM squilla.workers WHERE state = 'ready'")" = 2 ] && break; sleep 0.2; done
ask "SELECT address, state, device FROM squilla.workers ORDER BY address"
PGPASSWORD=wrong psql -X -h 127.0.0.1 -p "$port" -U squilla squilla -c 'SELECT 1' >/dev/null 2>&1 && { echo "a wrong password was taken"; exit 1; }
curl -sf "http://127.0.0.1:$((port + 1))/metrics" | grep -c '^squilla' | sed 's/^/metrics: /'
export SQUILLA_TEST_SERVER="host=127.0.0.1 port=$port user=squilla password=$PGPASSWORD dbname=squilla"
if [ $# -gt 0 ]; then "$@"; else cargo test --release -p squilla-tests --locked acceptance; fi
ask "SELECT 'answers of tasks: ' || count(*) || ' of workers: ' || count(DISTINCT worker) FROM squilla.shuffles"
