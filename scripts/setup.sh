#!/usr/bin/env bash
# Installs what squilla needs and this machine lacks. Safe to run again: what is there is left alone.
#
# System packages come from apt (through sudo when not root). The libraries ONNX Runtime and PDFium are taken out of the
# Python packages `onnxruntime` and `pypdfium2`; Python itself is used here only, never at run time.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${SQUILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/squilla}
export HF_HOME=${HF_HOME:-$cache/hf}
lib=$cache/lib

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$1" >&2; [ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "root is needed to run: $*" "Run it as root, then run make again."
  fi
}

# lacks COMMAND|LIBRARY|-: true when the command, the pkg-config library (lib...) or, with -, the package is not there.
lacks() {
  case $1 in
    -) command -v dpkg-query >/dev/null && ! dpkg-query -W -f '${Status}' "$2" 2>/dev/null | grep -q 'ok installed' ;;
    lib*) ! pkg-config --exists "$1" 2>/dev/null ;;
    *) ! command -v "$1" >/dev/null ;;
  esac
}

system_packages() {
  local wanted=(
    cmake=cmake nasm=nasm clang=clang -=libclang-dev pkg-config=pkg-config # to build turbojpeg and the FFmpeg bindings
    libavcodec=libavcodec-dev libavformat=libavformat-dev libavutil=libavutil-dev libswscale=libswscale-dev
    libswresample=libswresample-dev
    ffmpeg=ffmpeg espeak-ng=espeak-ng                                      # to make the sample media
    psql=postgresql-client unzip=unzip python3=python3 -=python3-venv
  )
  local missing=() entry
  for entry in "${wanted[@]}"; do
    if lacks "${entry%%=*}" "${entry#*=}"; then missing+=("${entry#*=}"); fi
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "these are missing: ${missing[*]}" "Install them with your system's package manager; the names are Debian's."
  say "installing system packages: ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

rust_toolchain() {
  command -v cargo >/dev/null || die "cargo was not found" "Install Rust from https://rustup.rs, then run make again."
  local have want=1.95
  have=$(rustc --version | cut -d' ' -f2)
  [ "$(printf '%s\n' "$want" "$have" | sort -V | head -1)" = "$want" ] ||
    die "Rust $want or newer is needed, found $have" "Run: rustup update stable"
  if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    command -v rustup >/dev/null || die "cargo fmt and cargo clippy are needed for the tests" "Install rustfmt and clippy."
    rustup component add rustfmt clippy
  fi
}

python_environment() {
  [ -x "$cache/venv/bin/pip" ] || { say "creating a Python environment for the set-up scripts"; python3 -m venv "$cache/venv"; }
}

# take_library PACKAGE PATTERN NAME: puts the shared library that matches PATTERN inside the Python package into $lib/NAME.
take_library() {
  local package=$1 pattern=$2 name=$3
  [ ! -s "$lib/$name" ] || return 0
  say "fetching $name"
  python_environment
  local scratch
  scratch=$(mktemp -d)
  "$cache/venv/bin/pip" download -q --no-deps --only-binary=:all: -d "$scratch" "$package"
  unzip -q -o "$scratch"/*.whl "$pattern" -d "$scratch/wheel"
  local found
  found=$(find "$scratch/wheel" -path "*/$pattern" -type f | sort | tail -1)
  [ -n "$found" ] || die "$package holds no file like $pattern"
  mkdir -p "$lib"
  install -m 0755 "$found" "$lib/$name.part"
  mv "$lib/$name.part" "$lib/$name"
  rm -rf "$scratch"
}

system_packages
rust_toolchain
mkdir -p "$cache"
take_library 'onnxruntime>=1.24,<1.32' 'onnxruntime/capi/libonnxruntime.so*' libonnxruntime.so
take_library pypdfium2 'pypdfium2_raw/libpdfium.so' libpdfium.so
scripts/setup-models.sh
