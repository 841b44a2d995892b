#!/usr/bin/env bash
# The version of this tree: the newest release of CHANGELOG.md, with the commit
# where the tree is past it; "dev" where neither is known.
set -euo pipefail
cd "$(dirname "$0")/.."
release=$(sed -n 's/^## \[\{0,1\}v\{0,1\}\([0-9][0-9A-Za-z.-]*\).*/\1/p' CHANGELOG.md 2>/dev/null | head -1 || true)
commit=$(git rev-parse --short HEAD 2>/dev/null || true)
exact=$(git describe --tags --exact-match 2>/dev/null || true)
if [ -n "$exact" ]; then
  echo "${exact#v}"
elif [ -n "$commit" ]; then
  echo "${release:-0.0.0}-dev+$commit"
else
  echo "${release:-dev}"
fi
