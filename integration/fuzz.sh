#!/usr/bin/env bash
# Fuzzes what strangers can send, each target for a while: FUZZ_TIME, 10s.
#
# A finding is an input that fails: it lies under testdata/fuzz then, and is a
# case of the ordinary tests from there on. That the engine was cut off at the
# end of its time, or lost a worker on a machine that is short of memory, is none.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${FUZZ_TIME:-10s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fuzz() {
  local package=$1 target=$2
  if "${GO:-go}" test "$package" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -parallel 2 >"$log" 2>&1; then
    echo "$target: $(grep -o 'execs: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2) inputs"
    return 0
  fi
  if grep -q 'Failing input written to\|failure while testing seed corpus\|panic:\|\[build failed\]\|\[setup failed\]' "$log"; then
    cat "$log"
    exit 1
  fi
  grep -q 'context deadline exceeded\|hung or terminated unexpectedly\|signal: killed' "$log" || { cat "$log"; exit 1; }
  echo "$target: cut off, without a finding"
}

fuzz ./upgrader/control FuzzHTTP
fuzz ./upgrader/control FuzzHTTPBytes
fuzz ./upgrader/control FuzzSocket
fuzz ./cmd/upgrader FuzzConfig
