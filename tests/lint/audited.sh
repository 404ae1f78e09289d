#!/bin/bash
# Every route of the edge and every kind of job says in common/audit/coverage.def what it puts on the record, or why
# nothing; every action that is named there exists.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec /usr/bin/python3 - <<'PYTHON'
import pathlib, re, sys

text = pathlib.Path('common/audit/coverage.def').read_text()
audited = dict(re.findall(r'^AUDITED\("([^"]+)",\s*"([^"]+)"\)', text, re.M))
free = dict(re.findall(r'^UNAUDITED\("([^"]+)",\s*"([^"]+)"\)', text, re.M))
actions = set(re.findall(r'^ACTION\(\w+,\s*"([^"]+)"', pathlib.Path('common/audit/actions.def').read_text(), re.M))
routes = pathlib.Path('services/edge/routes.c').read_text().split('ROUTES[] = {')[1].split('{ 0 }')[0]
rows = re.findall(r'\{ "[A-Z]+", "([^"]+)".*?\n\s*\w+, \w+, (NULL|"[^"]+")', routes)
asked = {path if method == 'NULL' else method.strip('"') for path, method in rows}
kinds = {f'job {kind}' for path in pathlib.Path('services').rglob('*.c') for kind in re.findall(r'\{ "([a-z_]+)",\s+SCOPE_JOB_', path.read_text())}
failed = [f'{what}: in both lists' for what in audited.keys() & free.keys()]
failed += [f'{what}: no row in common/audit/coverage.def says what it puts on the record' for what in sorted((asked | kinds) - audited.keys() - free.keys())]
failed += [f'{what}: a row of common/audit/coverage.def, and there is no such route or job'
           for what in sorted((audited.keys() | free.keys()) - asked - kinds - {'cordon-migrate', 'start or end of a process'})]
failed += [f'{what}: {action} is no action' for what, names in audited.items() for action in names.split() if action not in actions]
print('\n'.join(failed))
if len(rows) != len(re.findall(r'\{ "[A-Z]+", "/', routes)) or not rows or not kinds:
    failed.append('unread')
    print('not every route can be read, or no kinds of jobs were found: this lint looks in the wrong place')
sys.exit(bool(failed))
PYTHON
