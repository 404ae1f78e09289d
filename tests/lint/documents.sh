#!/bin/bash
# Documents that are printed from tables equal them: docs/ERROR_CODES.md (common/core/errors.def) and
# docs/settings.md (what each process prints with --settings-markdown). With --write they are written anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${CORDON_BUILD_DIR:-build}
processes=(edge auth ingest-worker embedding-worker query audit-writer migrate)
mode=${1:-check}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

/usr/bin/python3 - >"$made/ERROR_CODES.md" <<'PYTHON'
import re

ROW = re.compile(r'ERROR\((\w+),\s*"(\w+)",\s*(ST_\w+),\s*(\d+),\s*"((?:\\.|[^"\\])*)"\)')
STATUS = re.compile(r'STATUS\((ST_\w+),\s*\d+,\s*\d+,\s*(true|false),')
retryable = {name: flag == 'true' for name, flag in STATUS.findall(open('common/core/status.def').read())}
print('''# Error codes

Printed from `common/core/errors.def` by `tests/lint/documents.sh --write`; do not edit. Every answer that is not a success is
`application/problem+json` (RFC 9457) with `status`, `title`, `code` and `request_id`. A code never changes its meaning; the text may
improve. *Again* says whether the same request may succeed later: after `Retry-After`, or with a little patience of your own.

| code | HTTP | again | what the client reads |
|---|---|---|---|''')
for _, code, status, http, text in ROW.findall(open('common/core/errors.def').read()):
    if code != 'OK_000':
        print(f'| `{code}` | {http} | {"yes" if retryable[status] else "no"} | {text} |')
PYTHON

{
    cat <<'TEXT'
# Settings

Printed from each process's own table by `tests/lint/documents.sh --write`; do not edit. Settings are environment variables, read once at
start and then wiped from the environment. A variable that is set to nothing counts as absent.
TEXT
    for process in "${processes[@]}"; do
        binary=$build/services/$process/cordon-$process
        [[ -x $binary ]] || { echo "$binary is not built" >&2; exit 77; }
        echo
        "$binary" --settings-markdown
    done
} >"$made/settings.md" || exit 77

if [[ $mode == --write ]]; then
    cp "$made"/*.md docs/
    exit 0
fi
status=0
for document in ERROR_CODES settings; do
    diff -u "docs/$document.md" "$made/$document.md" || { echo "docs/$document.md is old: tests/lint/documents.sh --write"; status=1; }
done
exit "$status"
