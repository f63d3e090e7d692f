#!/usr/bin/env bash
# The figures of docs/operations.md, each as a ratio within one run: scripts/cluster/figures.sh tpch | workloads | shuffle | kill | resume
# Needs psql, python3 and the tiny models; `workloads` and `resume` also ffmpeg and espeak-ng, `tpch` files of tpchgen-cli:
#   tpchgen-cli parquet -s 1 --output-dir=$SQUILLA_CACHE/tpch/sf1
# SQUILLA names the binary, PORT the first of the ports that are used, RUNS how often a time is taken: the least counts.
set -u
cd "$(dirname "$0")/../.."
cache=${SQUILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/squilla}
squilla=${SQUILLA:-${CARGO_TARGET_DIR:-$cache/target}/release/squilla} port=${PORT:-5770} runs=${RUNS:-2}
export HF_HOME=${HF_HOME:-$cache/hf} SQUILLA_CACHE=$cache PGAPPNAME=figures
scratch=$(mktemp -d)
pids=()
stop() { [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null; wait 2>/dev/null; pids=(); }
trap 'stop; rm -rf "$scratch"' EXIT

# worker NUMBER [PREFIX...] [-- ARGUMENT...]
worker() {
  local n=$1 prefix=()
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do prefix+=("$1"); shift; done
  [ $# = 0 ] || shift
  "${prefix[@]}" "$squilla" worker --listen 127.0.0.1:$((port + n)) --spill-dir "$scratch/spill" "$@" 2>>"$scratch/worker$n.log" &
  pid=$!
  pids+=("$pid")
}

# server WORKERS [ARGUMENT...]: a server with that many workers, 0 for none; waits until it sees them.
server() {
  local n=$1 list=() named=() seen
  shift
  for w in $(seq 1 "$n"); do list+=("127.0.0.1:$((port + w))"); done
  [ "$n" = 0 ] || named=(--workers "$(IFS=,; echo "${list[*]}")")
  "$squilla" serve --listen 127.0.0.1:$port --http-listen off --data-dir "$scratch/data" "${named[@]}" "$@" 2>>"$scratch/server.log" &
  pid=$!
  pids+=("$pid")
  until pg_isready -q -h 127.0.0.1 -p $port; do sleep 0.05; done
  until [ "$(run "SELECT count(*) FROM squilla.workers WHERE state = 'ready'")" = "$n" ]; do sleep 0.1; done
}
run() { psql -X -h 127.0.0.1 -p $port -U squilla squilla -qAt -v ON_ERROR_STOP=1 -c "$1" 2>&1 | grep -v '^WARNING\|^HINT\|^DETAIL'; }
now() { date +%s.%N; }
since() { python3 -c "print(f'{$(now) - $1:.2f}')"; }
ratio() { python3 -c "print(f'{$1 / $2:.2f}')"; }
least() { printf '%s\n' "$@" | sort -g | head -1; }
# The most memory that a process had, in bytes.
peak() { awk '/^VmHWM/ { print $2 * 1024 }' "/proc/$1/status"; }

tpch() {
  local data=${TPCH:-$cache/tpch/sf1} total_1=0 total_2=0 equal=0
  run_all() {
    for table in customer lineitem nation orders part partsupp region supplier; do
      run "CREATE OR REPLACE VIEW $table AS SELECT * FROM read_parquet('$data/$table.parquet')" >/dev/null
    done
    python3 - "$1" "$runs" "host=127.0.0.1 port=$port user=squilla dbname=squilla" <<'P'
import os, subprocess, sys, time
folder, runs, server = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.makedirs(folder, exist_ok=True)
text = open("scripts/cluster/tpch.sql").read().split("\n", 1)[1]
for number, sql in enumerate(text.split("\n----\n"), 1):
    # One psql for all runs: \timing is the time of the statement alone.
    script = "\\timing on\n" + (sql.strip().replace("\n", " ") + ";\n") * (runs + 1)
    out = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", server], input=script, capture_output=True, text=True)
    times = [float(l.split()[1]) / 1000 for l in out.stdout.splitlines() if l.startswith("Time: ")]
    rows = [l for l in out.stdout.splitlines() if not l.startswith("Time: ")]
    open(f"{folder}/{number}.rows", "w").write("\n".join(rows[: len(rows) // (runs + 1)]) + out.stderr)
    open(f"{folder}/{number}.time", "w").write(str(min(times[1:] or times or [0.0])))
P
  }
  server 0
  run_all "$scratch/one"
  stop
  worker 1; worker 2
  server 2
  run_all "$scratch/two"
  printf '%s statements used the workers\n' "$(run "SELECT count(DISTINCT query_id) FROM squilla.shuffles")"
  for q in $(seq 1 22); do
    read -r a <"$scratch/one/$q.time"; read -r b <"$scratch/two/$q.time"
    same=different
    if cmp -s "$scratch/one/$q.rows" "$scratch/two/$q.rows" && [ -s "$scratch/one/$q.rows" ] && ! grep -q ERROR "$scratch/one/$q.rows"; then
      same=equal equal=$((equal + 1))
    fi
    printf 'q%-3s one process %6.3f s   two workers %6.3f s   %s\n' "$q" "$a" "$b" "$same"
    [ $same = equal ] || diff "$scratch/one/$q.rows" "$scratch/two/$q.rows" | head -4
    total_1=$(python3 -c "print($total_1 + $a)") total_2=$(python3 -c "print($total_2 + $b)")
  done
  printf 'tpch: %s of 22 equal; one process %.2f s, two workers on the same cores %.2f s: %s x\n' $equal "$total_1" "$total_2" "$(ratio "$total_2" "$total_1")"
}

media() {
  # MEDIA keeps them for the next run.
  if [ -n "${MEDIA:-}" ]; then mkdir -p "$MEDIA"; ln -s "$MEDIA" "$scratch/media"; [ -e "$MEDIA/truth.tsv" ] && return; fi
  [ -e "$scratch/media/truth.tsv" ] || python3 scripts/make-sample-media.py "$scratch/media" --count "${COUNT:-40}" --broken 0 >/dev/null
  # More of the same, so that starting is a small part of the time.
  for kind in audio images video; do
    for f in "$scratch/media/$kind"/*; do for i in $(seq 1 $((${1:-1} - 1))); do cp "$f" "${f%.*}-$i.${f##*.}"; done; done
  done
}
workload() {
  case $1 in
    image) echo "SELECT uri, classify_image(file, model => 'tiny/resnet-shapes') AS label FROM read_files('$scratch/media/images/*')" ;;
    audio) echo "SELECT uri, transcribe(file, model => 'tiny/whisper-commands') AS text FROM read_files('$scratch/media/audio/*')" ;;
    document) echo "SELECT f.uri, p.page_no, c.chunk_no, embed_text(c.text) AS embedding FROM read_files('$scratch/media/pdf/*') f,
      LATERAL pdf_pages(f.file) p, LATERAL chunk_text(p.text, chunk_size => 800, overlap => 100) c" ;;
    video) echo "SELECT v.uri, f.frame_no, d.label, d.box FROM read_files('$scratch/media/video/*') v,
      LATERAL video_frames(v.file, every => interval '0.2 s') f, LATERAL detect(f.image, model => 'tiny/yolo-shapes') d" ;;
  esac
}

workloads() {
  media "${TIMES:-6}"
  local one=() w
  for n in 1 2; do
    # Each worker has one core, the server shares the first: it only lists, sends and writes.
    for w in $(seq 1 $n); do worker "$w" taskset -c $((w - 1)) -- --set squilla.threads=1; done
    server $n --set squilla.distributed=on
    for kind in image audio document video; do
      local times=()
      for _ in $(seq 0 "$runs"); do
        local start; start=$(now)
        run "COPY ($(workload $kind)) TO '$scratch/$kind-$n.parquet' (FORMAT parquet)" | grep -v '^COPY'
        times+=("$(since "$start")")
      done
      echo "$(least "${times[@]:1}")" >"$scratch/$kind-$n.time"
      run "SELECT count(*) FROM read_parquet('$scratch/$kind-$n.parquet')" >"$scratch/$kind-$n.rows"
    done
    stop
  done
  for kind in image audio document video; do
    read -r a <"$scratch/$kind-1.time"; read -r b <"$scratch/$kind-2.time"
    printf '%s: one worker of one core %s s, two %s s: %s x; %s and %s rows\n' $kind "$a" "$b" "$(ratio "$a" "$b")" \
      "$(cat "$scratch/$kind-1.rows")" "$(cat "$scratch/$kind-2.rows")"
  done
}

shuffle() {
  # Rows of 10 times the memory are dealt anew between two workers, for a join by a key that the table is not sorted by.
  local budget=${BUDGET:-128} peaks=() times=()
  local rows=$((budget * 10 * 1024 * 1024 / 112))
  server 0
  run "CREATE TABLE wide AS SELECT g AS id, g::bigint * 7919 % 100003 AS k, md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text) AS v
    FROM generate_series(1, $rows) g" | grep ERROR && exit 1
  run "CREATE TABLE keys AS SELECT g::bigint AS k, md5(g::text) AS name FROM generate_series(0, 100002) g" | grep ERROR && exit 1
  stop
  local sql="SELECT count(*), sum(length(v)), max(name) FROM keys FULL JOIN wide ON wide.k = keys.k"
  for memory in 8GB ${budget}MB; do
    worker 1 -- --memory $memory --set squilla.threads=1; local p1=$pid
    worker 2 -- --memory $memory --set squilla.threads=1; local p2=$pid
    server 2 --set squilla.distributed=on
    local start; start=$(now)
    answer=$(run "$sql")
    times+=("$(since "$start")") peaks+=("$(peak $p1)" "$(peak $p2)")
    printf 'memory %s: %s in %s s; most resident %s and %s MB; ' $memory "$answer" "${times[-1]}" $((${peaks[-2]} >> 20)) $((${peaks[-1]} >> 20))
    run "SELECT 'on the wire ' || (sum(wire_bytes) / 1048576)::bigint || ' MB, waited in memory ' || (sum(memory_bytes) / 1048576)::bigint || ' MB, in files '
      || (sum(spilled_bytes) / 1048576)::bigint || ' MB' FROM squilla.shuffles"
    stop
  done
  printf 'shuffle: time with %s MB is %s x that in memory\n' "$budget" "$(ratio "${times[1]}" "${times[0]}")"
}

kill_half() {
  media "${TIMES:-6}"
  for w in 1 2 3; do worker $w -- --set squilla.threads=1; done
  local victim=$pid sql
  server 3 --set squilla.distributed=on --set squilla.lease_bytes=1MB
  sql="COPY ($(workload audio)) TO '$scratch/out.parquet' (FORMAT parquet)"
  run "$sql" >/dev/null
  local start; start=$(now); run "$sql" >/dev/null
  local whole; whole=$(since "$start")
  start=$(now)
  run "$sql" >/dev/null & local statement=$!
  sleep "$(python3 -c "print($whole / 2)")"
  kill -9 $victim
  wait $statement
  local killed; killed=$(since "$start")
  printf 'kill: %s s with three workers, %s s when one of them is killed at half: %s x; %s rows, %s leases made again\n' "$whole" "$killed" \
    "$(ratio "$killed" "$whole")" "$(run "SELECT count(DISTINCT uri) FROM read_parquet('$scratch/out.parquet')")" "$(grep -c 'made again' "$scratch/server.log")"
}

resume() {
  media "${TIMES:-6}"
  local files; files=$(find "$scratch/media/images" -type f | wc -l)
  worker 1; worker 2
  server 2; local coordinator=$pid all
  run "CREATE TABLE labels (uri text, label text)" >/dev/null
  PGOPTIONS="-c squilla.resume=whole" run "INSERT INTO labels $(workload image)" >/dev/null
  all=$(run "SELECT count(*) FROM squilla.shuffles")
  kill "$coordinator"; wait "$coordinator" 2>/dev/null
  for percent in 30 60 90; do
    server 2; coordinator=$pid
    run "TRUNCATE labels" >/dev/null
    PGOPTIONS="-c squilla.resume=half-$percent" run "INSERT INTO labels $(workload image)" >/dev/null & local statement=$!
    until [ "$(find "$scratch/data/jobs" -name '*.arrow' 2>/dev/null | wc -l)" -ge $((percent * all / 100)) ]; do sleep 0.01; done
    kill -9 "$coordinator"
    wait $statement "$coordinator" 2>/dev/null
    local kept; kept=$(find "$scratch/data/jobs" -name '*.arrow' | wc -l)
    server 2; coordinator=$pid
    PGOPTIONS="-c squilla.resume=half-$percent" run "INSERT INTO labels $(workload image)" >/dev/null
    # Leases that were under way when the server died are what is done again.
    local made; made=$(run "SELECT count(*) FROM squilla.shuffles")
    printf 'resume: killed after %s of %s leases; %s made then; %s of %s files, %s rows\n' "$kept" "$all" "$made" \
      "$(run "SELECT count(DISTINCT uri) FROM labels")" "$files" "$(run "SELECT count(*) FROM labels")"
    kill "$coordinator"; wait "$coordinator" 2>/dev/null
  done
} 2>/dev/null

case ${1:-} in
  tpch | workloads | shuffle | resume) "$1" ;;
  kill) kill_half ;;
  *) grep '^# ' "$0"; exit 2 ;;
esac
