#!/bin/bash
# Fault points: each row of faults.def stands in the code of the processes that it names, and nowhere else; the product's
# binaries know nothing of the folder that arms them; those that do refuse production.
set -euo pipefail
cd "$(dirname "$0")/../.."
failed=0
complain() { echo "$1"; failed=1; }

while IFS='|' read -r id name processes; do
    used=$(grep -rlE "fault_(point|status)\($id\b" common services --include='*.c' || true)
    [[ -n $used ]] || complain "$name: no code has it"
    for file in $used; do
        folder=$(cut -d/ -f2 <<<"$file")
        [[ $file == common/* || $folder == "$processes" ]] || complain "$name: $file is not of $processes"
    done
done < <(sed -nE 's/^FAULT\((FAULT_[A-Z0-9_]+), *"([^"]+)", *"([^"]+)".*/\1|\2|\3/p' common/core/faults.def)

names=$(sed -nE 's/^FAULT\([A-Z0-9_]+, *"([^"]+)".*/\1/p' common/core/faults.def)
[[ -z $(sort <<<"$names" | uniq -d) ]] || complain "two points of one name: $(sort <<<"$names" | uniq -d)"

if [[ -n ${CORDON_BUILD_DIR:-} ]]; then
    for name in edge auth ingest-worker embedding-worker query audit-writer offboard; do
        binary=$CORDON_BUILD_DIR/services/$name/cordon-$name
        [[ -x $binary ]] || { complain "$binary: not built"; continue; }
        ! grep -qF CORDON_FAULT_DIR "$binary" || complain "$binary: has fault points in it"
    done
    ninja -C "$CORDON_BUILD_DIR" faults >/dev/null
    for binary in "$CORDON_BUILD_DIR"/faults/cordon-*; do
        grep -qF CORDON_FAULT_DIR "$binary" || complain "$binary: has no fault points in it"
        ! ENVIRONMENT=production "$binary" --help >/dev/null 2>&1 || complain "$binary: runs in production"
    done
fi
exit "$failed"
