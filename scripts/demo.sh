#!/usr/bin/env bash
# The demo: sample media, a running server, the four statements through psql. Run it through `make demo`.
#
# MEDIA=/some/folder takes your own files instead of the sample; it needs the folders audio, images, video and pdf.
# SPEECH_MODEL, IMAGE_MODEL, DETECTION_MODEL and EMBEDDING_MODEL name other models. A second run starts in seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${SQUILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/squilla}
data=${SQUILLA_DATA:-${XDG_DATA_HOME:-$HOME/.local/share}/squilla}
port=${SQUILLA_PORT:-5433}
export HF_HOME=${HF_HOME:-$cache/hf}
binary=${CARGO_TARGET_DIR:-$cache/target}/release/squilla
log=$data/demo.log pid_file=$data/demo.pid

say() { printf '==> %s\n' "$*"; }

running() { [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

sample_media() {
  media=${MEDIA:-$cache/sample}
  [ -z "${MEDIA:-}" ] || return 0
  # Three percent of the files are broken on purpose.
  local wanted
  wanted="count 100, broken 3, $(cat scripts/make-sample-media.py scripts/sample_media_prose.py | cksum)"
  [ "$(cat "$media/made" 2>/dev/null)" != "$wanted" ] || return 0
  say "making sample media in $media"
  rm -rf "$media"
  python3 scripts/make-sample-media.py "$media" --count 100 --broken 3
  echo "$wanted" >"$media/made"
}

start_server() {
  mkdir -p "$data"
  if running && [ "$binary" -nt "$pid_file" ]; then
    say "the running server is older than the binary: restarting it"
    scripts/stop.sh
  fi
  if ! running; then
    say "starting the server on 127.0.0.1:$port"
    # The defaults: loopback only, no configuration, data under $data.
    setsid nohup "$binary" serve --listen "127.0.0.1:$port" --data-dir "$data" </dev/null >"$log" 2>&1 &
    echo $! >"$pid_file"
  fi
  local tries
  for tries in $(seq 100); do
    pg_isready -q -h 127.0.0.1 -p "$port" && return 0
    if ! running; then break; fi
    sleep 0.1
  done
  rm -f "$pid_file"
  tail -n 20 "$log" >&2
  echo "error: the server did not start; its log is $log" >&2
  exit 1
}

statements() {
  local out=$data/demo
  mkdir -p "$out"
  local script
  for script in demo/*.sql; do
    psql -X -q -h 127.0.0.1 -p "$port" -U squilla -d squilla -v ON_ERROR_STOP=1 -P pager=off -P footer=off \
      -v media="$media" -v out="$out" \
      -v speech_model="${SPEECH_MODEL:-tiny/whisper-commands}" \
      -v image_model="${IMAGE_MODEL:-tiny/resnet-shapes}" \
      -v detection_model="${DETECTION_MODEL:-tiny/yolo-shapes}" \
      -v embedding_model="${EMBEDDING_MODEL:-sentence-transformers/all-MiniLM-L6-v2}" \
      -v question="${QUESTION:-Why does bread need time to rise?}" \
      -c '\timing on' -f "$script"
  done
}

sample_media
start_server
statements
cat <<END

The server is running. Connect:  psql -h 127.0.0.1 -p $port -U squilla squilla
Stop it:                         make stop
Its log:                         $log
END
