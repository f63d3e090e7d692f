#!/usr/bin/env bash
# Every check of the project, each named as it starts, with a summary at the end. Goes on after a failed check, so that
# one run shows all that is wrong. `STEPS="fmt clippy" scripts/test.sh` runs some of them.
set -uo pipefail
cd "$(dirname "$0")/.."
cache=${SQUILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/squilla}
export HF_HOME=${HF_HOME:-$cache/hf}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export RUSTDOCFLAGS="-D warnings"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 broken=()

step() {
  local name=$1 start=$SECONDS
  shift
  [ -z "${STEPS:-}" ] || [[ " $STEPS " == *" $name "* ]] || return 0
  printf '\n==> %s\n' "$name"
  if "$@" 2>&1 | tee -a "$log"; then passed=$((passed + 1)); else failed=$((failed + 1)); broken+=("$name"); fi
  printf -- '--- %s: %s s\n' "$name" $((SECONDS - start))
}

licences() {
  if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check licenses bans sources
  else echo "cargo-deny is not installed: licences were checked by the test tidy::licences"; fi
}

rm -f "$CARGO_TARGET_DIR"/tmp/records-*.txt
step fmt cargo fmt --all --check
# squilla-tests is selected alone everywhere: its dependencies would change the feature set of the others (see tests/Cargo.toml).
step clippy cargo clippy --release --workspace --exclude squilla-tests --all-targets --locked -- -D warnings
step clippy-tests cargo clippy --release -p squilla-tests --all-targets --locked -- -D warnings
step build cargo build --release --locked
step unit-tests cargo test --release --workspace --exclude squilla-tests --locked --no-fail-fast
step integration-tests cargo test --release -p squilla-tests --locked --no-fail-fast
step docs "$CARGO_TARGET_DIR/release/squilla" docs --check
step doc cargo doc --release --workspace --exclude squilla-tests --no-deps --locked
step licences licences

read -r unit_passed unit_failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
echo
cat "$CARGO_TARGET_DIR"/tmp/records-*.txt 2>/dev/null
printf '%s checks passed, %s failed%s\n' "$passed" "$failed" "${broken[*]:+ (${broken[*]})}"
printf '%s passed, %s failed\n' "$unit_passed" "$unit_failed"
[ "$failed" = 0 ] && [ "$unit_failed" = 0 ]
