#!/usr/bin/env bash
# Runs the programs of tests/clients against a server, each from a clean directory, with clients installed from Debian,
# PyPI or Maven Central. Arguments name some of them; without, all run. Exit status 1 if one failed.
# A client that cannot be installed is skipped, and said so; with CI=true it counts as failed, so that a check that has
# stopped to run is seen: all of these install on Debian 12 with PyPI. What SKIP names may be left out there too.
#
#   SKIP                  names of programs to leave out; they are listed at the end
#   SQUILLA_TEST_SERVER   host:port of a server that runs already; without, the built binary is started
#   SQUILLA_BINARY        the binary (default: target/release/squilla)
#   CLIENT_CACHE          where clients are installed (default: ~/.cache/squilla/clients)
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${CLIENT_CACHE:-$HOME/.cache/squilla/clients}
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
mkdir -p "$cache"
export SQUILLA_BINARY=${SQUILLA_BINARY:-${CARGO_TARGET_DIR:-$root/target}/release/squilla} SQUILLA_DOCS=$root/docs

apt_get() { # command package...: installs what the command needs, once
  command -v "$1" >/dev/null && return
  shift
  local sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

venv() { # name package...: a Python environment of its own
  local dir=$cache/$1
  shift
  [ -e "$dir/.done" ] && return
  rm -rf "$dir"
  python3 -m venv "$dir" && "$dir/bin/pip" install -q "$@" && touch "$dir/.done"
}

install_dbt() { apt_get psql postgresql-client && venv dbt dbt-core==1.9.* dbt-postgres==1.9.*; }
install_python() { venv python psycopg2-binary; }
install_recovery() { apt_get psql postgresql-client && venv recovery pyarrow pyroaring; }
install_jdbc() {
  apt_get javac default-jdk-headless || return
  jar() { ls "$cache"/postgresql-*.jar /usr/share/java/postgresql.jar 2>/dev/null | head -n 1; }
  [ -n "$(jar)" ] || apt_get no-such-command libpostgresql-jdbc-java ||
    mvn -q dependency:copy -Dartifact=org.postgresql:postgresql:42.7.4 -DoutputDirectory="$cache"
  CLIENT_JDBC=$(jar)
  export CLIENT_JDBC
  [ -n "$CLIENT_JDBC" ]
}
install_perl() { perl -MDBD::Pg -e 1 2>/dev/null || apt_get no-such-command libdbd-pg-perl; }
install_php() { apt_get php php-cli && { php -m | grep -q pdo_pgsql || apt_get no-such-command php-pgsql; }; }
install_ruby() { apt_get ruby ruby && { ruby -e 'require "pg"' 2>/dev/null || apt_get no-such-command ruby-pg; }; }
install_odbc() {
  apt_get cc gcc libc6-dev || return
  [ -n "$(find /usr/lib -name psqlodbcw.so -print -quit)" ] && [ -e /usr/include/sql.h ] || apt_get no-such-command unixodbc-dev odbc-postgresql
}

if [ -n "${SQUILLA_TEST_SERVER:-}" ]; then
  export PGHOST=${SQUILLA_TEST_SERVER%:*} PGPORT=${SQUILLA_TEST_SERVER##*:}
else
  export PGHOST=127.0.0.1 PGPORT=${PGPORT:-5499}
  "$SQUILLA_BINARY" serve --listen "$PGHOST:$PGPORT" --data-dir "$work/data" >"$work/server.log" 2>&1 &
  server=$!
fi
export PGUSER=${PGUSER:-squilla} PGDATABASE=${PGDATABASE:-squilla}
for _ in $(seq 100); do (exec 3<>"/dev/tcp/$PGHOST/$PGPORT") 2>/dev/null && break; sleep 0.2; done

[ $# -gt 0 ] || set -- dbt python jdbc odbc perl php ruby recovery
passed= failed= skipped=
for name in "$@"; do
  if [[ " ${SKIP:-} " == *" $name "* ]]; then skipped="$skipped $name"; continue; fi
  if ! "install_$name" >"$work/$name.install" 2>&1; then
    tail -n 3 "$work/$name.install"
    if [ "${CI:-}" = true ]; then
      echo "FAIL $name: the client could not be installed"; failed="$failed $name"
    else
      echo "skipped $name: the client could not be installed here"; skipped="$skipped $name"
    fi
    continue
  fi
  cp -r "$root/tests/clients/$name" "$work/$name"
  if (cd "$work/$name" && CLIENT_ENV=$cache/$name timeout 900 bash ./run.sh) >"$work/$name.log" 2>&1; then
    echo "ok $name"; passed="$passed $name"
  else
    echo "FAIL $name"; tail -n 25 "$work/$name.log"
    failed="$failed $name"
  fi
done
echo "passed:${passed:- none}; failed:${failed:- none}; skipped:${skipped:- none}"
[ -z "$failed" ]
