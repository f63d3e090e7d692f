#!/usr/bin/env bash
# Every check of the project, each named as it starts, with a summary at the end. Goes on after a failed check, so that
# one run shows all that is wrong. `STEPS="fmt clippy" scripts/test.sh` runs some of them.
set -uo pipefail
cd "$(dirname "$0")/.."
cache=${SQUILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/squilla}
export HF_HOME=${HF_HOME:-$cache/hf}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export RUSTDOCFLAGS="-D warnings"
exec </dev/null
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 broken=()

# step NAME COMMAND...: counts the tests that the command reports, else the command itself as one check.
step() {
  local name=$1 start=$SECONDS status=0 good bad
  shift
  [ -z "${STEPS:-}" ] || [[ " $STEPS " == *" $name "* ]] || return 0
  printf '\n==> %s\n' "$name"
  "$@" 2>&1 | tee "$log" || status=1
  read -r good bad < <(awk '/^test result:/ { good += $4; bad += $6 } END { print good + 0, bad + 0 }' "$log")
  if [ $status = 0 ] && [ "$good" = 0 ]; then good=1; fi
  if [ $status != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
  passed=$((passed + good)) failed=$((failed + bad))
  [ "$bad" = 0 ] || broken+=("$name")
  printf -- '--- %s: %s passed, %s failed, %s s\n' "$name" "$good" "$bad" $((SECONDS - start))
}

rm -f "$CARGO_TARGET_DIR"/tmp/records-*.txt
step fmt cargo fmt --all --check
# squilla-tests is selected alone everywhere: its dependencies would change the feature set of the others (see tests/Cargo.toml).
step clippy cargo clippy --release --workspace --exclude squilla-tests --all-targets --locked -- -D warnings
step clippy-tests cargo clippy --release -p squilla-tests --all-targets --locked -- -D warnings
step build cargo build --release --locked
step unit-tests cargo test --release --workspace --exclude squilla-tests --locked --no-fail-fast
step integration-tests cargo test --release -p squilla-tests --locked --no-fail-fast
# Every record and the four workloads once more, on workers.
step records-on-1-worker env WORKERS=1 cargo test --release -p squilla-tests --locked records_over_the_simple
step records-on-3-workers env WORKERS=3 cargo test --release -p squilla-tests --locked records_over_the_simple
step workloads-on-2-workers env WORKERS=2 cargo test --release -p squilla-tests --locked acceptance
# Programs of dbt, Python, JDBC and ODBC, where their clients can be installed.
step clients scripts/test-clients.sh
step docs "$CARGO_TARGET_DIR/release/squilla" docs --check
step doc cargo doc --release --workspace --exclude squilla-tests --no-deps --locked
# Without cargo-deny, the test tidy::licences has checked the licences.
if cargo deny --version >/dev/null 2>&1; then step licences cargo deny --offline check licenses bans sources; fi

echo
cat "$CARGO_TARGET_DIR"/tmp/records-*.txt 2>/dev/null
[ "$failed" = 0 ] || printf 'failed: %s\n' "${broken[*]}"
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
