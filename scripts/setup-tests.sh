#!/usr/bin/env bash
# Installs what the tests need beside the product: a server of the S3 API (moto). Safe to run again.
set -euo pipefail
cache=${SQUILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/squilla}
[ -x "$cache/venv/bin/pip" ] || python3 -m venv "$cache/venv"
if ! "$cache/venv/bin/python" -c 'import moto.server, flask_cors' 2>/dev/null; then
  echo "==> installing a server of the S3 API for the tests"
  "$cache/venv/bin/pip" install -q 'moto[s3]>=5,<6' flask flask-cors
fi
