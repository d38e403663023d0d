#!/usr/bin/env bash
# Counts the instructions of a request's pure work (75 kB with 24 tools, 200 streamed tokens), which unlike its time is
# the same on every run, and fails if it has risen by more than a tenth over benches/instructions.txt.
# With --record, writes that file instead. Needs valgrind; without it, says so and succeeds.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v valgrind >/dev/null; then
    echo 'no valgrind here: instructions are not counted'
    exit 0
fi
profile=${CPROXY_COUNT_PROFILE:-bench-quick}
binary=$(cargo build --quiet --profile "$profile" --bench count --message-format=json |
    python3 -c '
import json, sys
for line in sys.stdin:
    made = json.loads(line)
    if made.get("executable") and made["target"]["name"] == "count":
        print(made["executable"])')

counted() { # LANE TIMES
    local out
    out=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1)
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$out"
}

record=$([ "${1:-}" = --record ] && echo yes || echo no)
failed=0
new=
for lane in pass-through translated; do
    # The difference of two counts: what starts and ends the process is in both.
    one=$(counted "$lane" 1)
    more=$(counted "$lane" 11)
    each=$(((more - one) / 10))
    new+="$lane $each"$'\n'
    if [ "$record" = yes ]; then continue; fi
    before=$(sed -n "s/^$lane \([0-9]*\)$/\1/p" benches/instructions.txt)
    printf '%s: %d instructions, recorded %d\n' "$lane" "$each" "$before"
    if [ $((each * 10)) -gt $((before * 11)) ]; then
        printf '%s: risen by more than a tenth\n' "$lane"
        failed=1
    fi
done
if [ "$record" = yes ]; then
    printf '%s' "$new" | tee benches/instructions.txt
fi
exit "$failed"
