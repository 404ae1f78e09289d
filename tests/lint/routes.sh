#!/bin/bash
# Every table of routes is walked by a test: a service whose table nobody walks may lack a row, or have one that
# answers with another message, and nothing would tell.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
failed=0
while read -r table; do
    service=$(cut -d/ -f2 <<<"$table")
    if ! grep -rqE '(every_rpc_is_routed|every_route)' "tests/service/$service" 2>/dev/null; then
        echo "$table: no test under tests/service/$service walks this table (name it every_rpc_is_routed)"
        failed=1
    fi
done < <(grep -rlE --include='*.c' '\bstruct (http_)?route [A-Z_]+\[\]' services)
exit "$failed"
