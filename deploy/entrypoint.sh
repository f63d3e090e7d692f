#!/bin/sh
# Starts squilla in a container. The first start of a server gives its superuser the password that the file
# SQUILLA_PASSWORD_FILE holds: a server refuses to listen on an address that others can reach without one.
set -eu
if [ "${1:-}" = serve ] && [ -n "${SQUILLA_PASSWORD_FILE:-}" ] && [ ! -e "$SQUILLA_DATA_DIR/.password-set" ]; then
  password=$(sed "s/'/''/g" "$SQUILLA_PASSWORD_FILE")
  squilla sql --data-dir "$SQUILLA_DATA_DIR" -c "ALTER ROLE squilla WITH LOGIN PASSWORD '$password'"
  : >"$SQUILLA_DATA_DIR/.password-set"
fi
exec squilla "$@"
