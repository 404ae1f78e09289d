#!/bin/bash
# Documents that are printed from tables equal them: docs/ERROR_CODES.md (common/core/errors.def, by
# cordon-edge --error-codes-markdown) and docs/settings.md (--settings-markdown of each process). With --write
# they are written anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${CORDON_BUILD_DIR:-build}
processes=(edge auth ingest-worker embedding-worker query audit-writer migrate offboard)
mode=${1:-check}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

for process in "${processes[@]}"; do
    [[ -x $build/services/$process/cordon-$process ]] || { echo "$build/services/$process/cordon-$process is not built"; exit 77; }
done

"$build/services/edge/cordon-edge" --error-codes-markdown >"$made/ERROR_CODES.md"

{
    cat <<'TEXT'
# Settings

Printed from each process's own table by `tests/lint/documents.sh --write`; do not edit. Settings are environment variables, read once at
start and then wiped from the environment. A variable that is set to nothing counts as absent. Secrets may be named instead of given
(`..._SECRET_ARN`): [secrets.md](secrets.md).
TEXT
    for process in "${processes[@]}"; do
        echo
        "$build/services/$process/cordon-$process" --settings-markdown
    done
} >"$made/settings.md"

if [[ $mode == --write ]]; then
    cp "$made"/*.md docs/
    exit 0
fi
status=0
for document in ERROR_CODES settings; do
    diff -u "docs/$document.md" "$made/$document.md" || { echo "docs/$document.md is old: tests/lint/documents.sh --write"; status=1; }
done
exit "$status"
