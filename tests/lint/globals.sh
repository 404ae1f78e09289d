#!/bin/bash
# No mutable globals: what our object files put into .data, .bss or their thread-local forms is listed here or
# refused. Tables with pointers in them are in .data.rel.ro and are fine: they are read-only once loaded.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${CORDON_BUILD_DIR:-build}
[[ -f $build/CMakeCache.txt ]] || { echo "no build in $build"; exit 77; }
if grep -q '^CORDON_SANITIZE:STRING=.\+' "$build/CMakeCache.txt"; then echo 'sanitizers add data of their own'; exit 77; fi

# What may be there: once-controls, which run something exactly once; the log's destination, set before threads
# start, and where spans go, likewise; the digest that OpenSSL was asked for once; what a thread is working for, and what ends its waits; the table that --help prints, too large for a stack.
allowed='^(common/[a-z]+/[a-z_]+\.c [a-z_]+_once|common/obs/log\.c sink|common/crypto/digest\.c fetched|common/obs/trace\.c (export|current)|common/core/cancel\.c cancelled_by|common/service/service\.c table)$'

objects=$(find "$build/common" "$build/services" -name '*.c.o' 2>/dev/null || true)
[[ -n $objects ]] || { echo "no objects in $build"; exit 77; }
found=$(while read -r object; do
    # common/core/CMakeFiles/cordon_core.dir/arena.c.o -> common/core/arena.c
    source=${object#"$build/"}
    source=${source%.o}
    source=$(sed -E 's|CMakeFiles/[^/]+\.dir/||' <<<"$source")
    [[ -f $source ]] || continue        # of a file that has gone
    objdump -t "$object" | awk -v source="$source" '
        $0 ~ /[[:space:]](\.data|\.bss|\.tdata|\.tbss)(\.[A-Za-z0-9_.]+)?[[:space:]]/ && $0 !~ /\.data\.rel\.ro/ &&
            $0 !~ / d / && $NF !~ /^\./ { print source, $NF }'
done <<<"$objects" | sed -E 's/\.[0-9]+$//' | sort -u | grep -vE "$allowed" || true)
[[ -z $found ]] || { printf 'mutable globals:\n%s\n' "$found"; exit 1; }
