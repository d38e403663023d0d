#!/usr/bin/env bash
# Counts the instructions of a request through the whole daemon but for its sockets (75 kB with 24 tools, 200 streamed
# tokens; benches/count.rs), which unlike its time are nearly the same on every run, and fails if they have risen by
# more than a tenth over benches/instructions.txt. With --record, writes that file instead.
#
# Valgrind shows programs a processor with AVX2 at most: on every host that has that, code which looks for vector
# instructions at run time (memchr, SHA-256, the C library) takes the same way. Where valgrind is missing it tries to
# install it, as root with apt-get; failing that, and on other systems, it says that it is skipped, and succeeds.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v valgrind >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y --no-install-recommends valgrind >/dev/null 2>&1 ||
        { apt-get update && apt-get install -y --no-install-recommends valgrind; } >/dev/null 2>&1 || true
fi
if ! command -v valgrind >/dev/null || [ "$(uname -sm)" != 'Linux x86_64' ]; then
    echo 'skipped: instructions are counted on Linux on x86-64, with valgrind'
    exit 0
fi
binary=$(cargo build --locked --quiet --profile bench-quick --bench count --message-format=json |
    python3 -c '
import json, sys
for line in sys.stdin:
    made = json.loads(line)
    if made.get("executable") and made["target"]["name"] == "count":
        print(made["executable"])')

counted() { # LANE TIMES
    local out
    # Hash tables are seeded anew in each process; addresses are not.
    out=$(setarch -R valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1) ||
        { printf '%s\n' "$out" >&2; return 1; }
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$out"
}

failed=0
new=
for lane in pass-through translated; do
    # The difference of two counts: what starts and ends the process is in both.
    few=$(counted "$lane" 10)
    many=$(counted "$lane" 30)
    each=$(((many - few) / 20))
    new+="$lane $each"$'\n'
    if [ "${1:-}" = --record ]; then continue; fi
    before=$(sed -n "s/^$lane \([0-9]*\)$/\1/p" benches/instructions.txt)
    printf '%s: %d instructions a request, recorded %d\n' "$lane" "$each" "$before"
    if [ $((each * 10)) -gt $((before * 11)) ]; then
        printf '%s: risen by more than a tenth; if that is meant, benches/callgrind.sh --record\n' "$lane"
        failed=1
    fi
done
if [ "${1:-}" = --record ]; then
    printf '%s' "$new" | tee benches/instructions.txt
fi
exit "$failed"
