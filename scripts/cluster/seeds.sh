#!/usr/bin/env bash
# Kills a worker at another moment of another statement in each of SEEDS rounds (scan, join, shuffle, inference) and compares
# the answer with the one before the kills: `scripts/cluster/seeds.sh [path of squilla]`. Needs psql, and the tiny models.
set -u
cd "$(dirname "$0")/../.."
cache=${SQUILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/squilla}
squilla=${1:-${CARGO_TARGET_DIR:-$cache/target}/release/squilla} seeds=${SEEDS:-20} port=${PORT:-5760}
export HF_HOME=${HF_HOME:-$cache/hf}
scratch=$(mktemp -d)
declare -A pid
stop() { kill "${pid[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$scratch"; }
trap stop EXIT

worker() {
  "$squilla" worker --listen 127.0.0.1:$((port + $1)) --spill-dir "$scratch/spill" 2>>"$scratch/worker$1.log" &
  pid[$1]=$!
}
for w in 1 2 3; do worker $w; done
"$squilla" serve --listen 127.0.0.1:$port --data-dir "$scratch/data" --set squilla.distributed=on \
  --workers 127.0.0.1:$((port + 1)),127.0.0.1:$((port + 2)),127.0.0.1:$((port + 3)) 2>"$scratch/server.log" &
pid[0]=$!
until pg_isready -q -h 127.0.0.1 -p $port; do sleep 0.1; done
sleep 2
run() { psql -h 127.0.0.1 -p $port -U squilla squilla -At -v VERBOSITY=verbose -c "$1" 2>&1 | grep -v '^WARNING\|^HINT'; }

mkdir "$scratch/media"
for i in $(seq 1 60); do cp tests/fixtures/image/scene.jpg "$scratch/media/$i.jpg"; done
run "CREATE TABLE big AS SELECT g AS id, g % 997 AS k, 'name ' || g AS name FROM generate_series(1, 1000000) g" >/dev/null
statements=(
  "SELECT count(*), sum(id), min(name), max(name) FROM big WHERE k < 700"
  "SELECT a.k, count(*), min(b.name) FROM big a JOIN big b ON a.id = b.id WHERE b.k < 50 GROUP BY a.k ORDER BY a.k LIMIT 20"
  "SELECT md5(name) AS h, count(*) FROM big GROUP BY 1 ORDER BY 1 LIMIT 5"
  "SELECT label, count(*) FROM (SELECT classify_image(decode_image(content), model => 'tiny/resnet-shapes') AS label
   FROM read_files('$scratch/media/*')) t GROUP BY label ORDER BY label"
)
for q in 0 1 2 3; do expected[q]=$(run "${statements[q]}"); done

same=0 different=0
for seed in $(seq 1 "$seeds"); do
  RANDOM=$seed q=$((seed % 4)) victim=$((RANDOM % 3 + 1))
  run "${statements[q]}" >"$scratch/answer" & statement=$!
  sleep 0.0$((RANDOM % 90 + 10))
  kill -9 "${pid[$victim]}"
  wait $statement
  if [ "$(cat "$scratch/answer")" = "${expected[q]}" ]; then same=$((same + 1)); else
    different=$((different + 1))
    printf 'seed %s, statement %s: %s\n' "$seed" "$q" "$(head -3 "$scratch/answer")"
  fi
  worker $victim
  sleep 1.6
done 2>/dev/null
printf '%s of %s answers equal; statements ran again %s times\n' $same "$seeds" "$(grep -c 'runs again' "$scratch/server.log")"
[ $different = 0 ]
