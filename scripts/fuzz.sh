#!/usr/bin/env bash
# make fuzz-brief: each fuzz target for FUZZTIME, each package compiled once.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do
  "${GO:-go}" test -c -fuzz=. -o "$work/fuzz.test" "$dir"
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$dir"/*_test.go); do
    out=$(cd "$dir" && "$work/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "${FUZZTIME:?}" -test.fuzzcachedir "$work/cache" 2>&1) ||
      { echo "$out" >&2; exit 1; }
    printf '%-28s %s\n' "$target" "$(grep -o 'execs: [0-9]*' <<<"$out" | tail -1)"
  done
done
