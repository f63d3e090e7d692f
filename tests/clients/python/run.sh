#!/usr/bin/env bash
# The hook, in the environment that test-clients.sh made.
set -euo pipefail
"$CLIENT_ENV/bin/python" hook.py
