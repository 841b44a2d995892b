#!/usr/bin/env bash
# make conformance: Microsoft's clients against the binary. Two processes run at a
# time, each in a network and with a hosts file of its own: az starts anew for each
# command and keeps one core busy, while the other tests mostly wait.
set -euo pipefail
cd "$(dirname "$0")/../conformance"
bin=$PWD/../bin
export HAWSER_BIN=$bin/hawser

"${GO:-go}" vet ./...
"${GO:-go}" test -c -o "$bin/conformance.test" .
by_az='^TestAz|^TestTutorial|^TestDeveloper'
half() { "$bin/conformance.test" -test.v -test.timeout 20m "$@" 2>&1; }

half -test.run "$by_az" >"$bin/conformance-az.log" &
az=$!
status=0
half -test.skip "$by_az" | tee "$bin/conformance.log" | awk '!/^=== / {print; fflush()}' || status=1
wait "$az" || status=1
awk '!/^=== /' "$bin/conformance-az.log"
awk '/ *--- PASS/ {p++} / *--- FAIL/ {f++} END {printf "conformance: %d passed, %d failed\n", p, f}' "$bin"/conformance{,-az}.log
exit "$status"
