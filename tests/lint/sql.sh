#!/bin/bash
# Statements in C name their tables with a schema: search_path is pg_catalog, so an unqualified name fails,
# but only when the statement runs. Also: parameters are $n (never pasted), and n_params is their count.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec /usr/bin/python3 - <<'PYTHON'
import pathlib, re, sys

PIECE = r'\s*(?:"(?:\\.|[^"\\])*"|[A-Z][A-Z0-9_]*)'
STATEMENT = re.compile(rf'struct sql (\w+)\s*=\s*\{{\s*"([a-z0-9_]+)"\s*,((?:{PIECE})+)\s*,\s*(\d+|[A-Z][A-Z0-9_]*)\s*\}}')
# Written at run time on purpose: the channel of LISTEN cannot be a parameter; it is checked to be a plain name.
MADE_AT_RUN_TIME = {'common/db/listen.c': 1}
TABLE = re.compile(r'\b(FROM|JOIN|INTO|UPDATE|TABLE)\s+(?:ONLY\s+)?([a-z_][a-z0-9_]*)(\s*\.|\s*\()?')
failed, seen = [], 0
for top in ('common', 'services'):
    for path in sorted(pathlib.Path(top).rglob('*.c')):
        text = re.sub(r'/\*.*?\*/', lambda m: re.sub(r'[^\n]', ' ', m.group(0)), path.read_text(), flags=re.S)
        joined = text.replace('\\\n', ' ')
        macros = {name: ''.join(re.findall(r'"((?:\\.|[^"\\])*)"', value))
                  for name, value in re.findall(r'^#define (\w+) +(.*)$', joined, re.M)}
        constants = dict(re.findall(r'\b([A-Z][A-Z0-9_]*) = (\d+)', text))
        for m in STATEMENT.finditer(text):
            seen += 1
            place = f'{path}:{text.count(chr(10), 0, m.start()) + 1}'
            pieces = re.findall(r'"((?:\\.|[^"\\])*)"|([A-Z][A-Z0-9_]*)', m.group(3))
            sql = ''.join(macros.get(name, '') if name else literal for literal, name in pieces)
            count = m.group(4) if m.group(4).isdigit() else constants.get(m.group(4))
            with_names = set(re.findall(r'(?:WITH(?: RECURSIVE)?|,)\s+([a-z_]+)(?:\s*\([^)]*\))?\s+AS\s+(?:MATERIALIZED\s+)?\(', sql))
            for t in TABLE.finditer(sql):
                before = sql[:t.start()].rstrip()
                if t.group(3) or t.group(2) in with_names or t.group(2).startswith('pg_') or before.endswith(('DISTINCT', 'FOR NO KEY', 'FOR')):
                    continue
                if t.group(1) == 'FROM' and re.search(r'(?:extract|trim|substring|overlay)\s*\([^)]*$', before, re.I):
                    continue
                if t.group(1) == 'UPDATE' and before.endswith('DO'):
                    continue
                failed.append(f'{place}: {m.group(2)} names {t.group(2)} without a schema')
            numbers = {int(n) for n in re.findall(r'\$(\d+)', sql)}
            if count is not None and numbers != set(range(1, int(count) + 1)):
                failed.append(f'{place}: {m.group(2)} has parameters {sorted(numbers)} but says {count}')
            if re.search(r"'[^']*%[sdlu]", sql) or '%s' in sql:
                failed.append(f'{place}: {m.group(2)} is made by printf')
        # A statement that the pattern above cannot read would escape the checks.
        declared = len(re.findall(r'\bstruct sql \w+\s*=\s*\{', text)) - len(STATEMENT.findall(text))
        if declared != MADE_AT_RUN_TIME.get(str(path), 0):
            failed.append(f'{path}: {declared} statement(s) not in the form {{ "name", "text", n }}')
print('\n'.join(failed))
if not seen:
    print('no statement found: this lint looks in the wrong place')
sys.exit(bool(failed) or not seen)
PYTHON
