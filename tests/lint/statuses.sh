#!/bin/bash
# No function swallows an outcome. What returns enum status or enum jwt_refusal is MUST_USE in its header, so
# that the compiler refuses callers who drop it; this finds the declarations that forgot, and the calls of
# static functions, which carry no attribute, that stand alone as a statement or behind a (void).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec /usr/bin/python3 - <<'PYTHON'
import pathlib, re, sys

RETURNS = r'enum (?:status|jwt_refusal)'
# May be dropped, and why.
DROPPABLE = {
    'answer_whole': 'the last thing that an exchange does: when it fails the client is gone and nobody is left to tell',
    'bus_worker_reply': 'repeats what the caller was told, for the log line',
}
# Called through tables only, whose one caller does look: handlers of routes, and checks of readiness.
IN_TABLES = re.compile(r'^(on|serve|check)_|_(open|start)$')
files = [p for top in ('common', 'services') for p in sorted(pathlib.Path(top).rglob('*.[ch]'))]
failed = []

def without_comments(text):
    blank = lambda m: re.sub(r'[^\n]', ' ', m.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', blank, text, flags=re.S)

def line_of(text, at):
    return text.count('\n', 0, at) + 1

def ends_with_condition(before):
    """Does the text end with the closing parenthesis of if, for or while?"""
    if not before.endswith(')'):
        return False
    depth = 0
    for i in range(len(before) - 1, -1, -1):
        depth += (before[i] == ')') - (before[i] == '(')
        if depth == 0:
            return bool(re.search(r'\b(if|for|while)\s*$', before[max(0, i - 10):i]))
    return False

names = {}
for path in files:
    text = without_comments(path.read_text())
    local = set()
    for m in re.finditer(rf'^(static )?(?:PRINTF\([^)]*\) )?{RETURNS} (\w+)\(', text, re.M):
        local.add(m.group(2))
        if path.suffix == '.h' and not m.group(1):
            end = text.index(';', m.end())
            # A table of what statuses mean has nothing to drop: sqlstate_status() and the like.
            if ('MUST_USE' not in text[m.start():end] and not re.search(r'_(status|from_text|of)$', m.group(2))
                    and m.group(2) not in DROPPABLE and not IN_TABLES.search(m.group(2))):
                failed.append(f'{path}:{line_of(text, m.start())}: {m.group(2)} is not MUST_USE')
    names[path] = local

for path in files:
    text = without_comments(path.read_text())
    for name in names[path] - set(DROPPABLE):
        for m in re.finditer(rf'(?<=[;{{}}\n)])\s*(?:\(void\)\s*)?\b{name}\s*\(', text):
            before = text[:m.start()].rstrip()
            start = re.search(r'\S', text[m.start():]).start() + m.start()
            # A statement begins after ; { } or after the closing parenthesis of if, for, while, or after else.
            if before[-1:] in ';{}' or before.endswith('else') or ends_with_condition(before) or '(void)' in m.group(0):
                if re.match(rf'(?:\(void\)\s*)?{name}', text[start:]):
                    failed.append(f'{path}:{line_of(text, start)}: the outcome of {name} is dropped')

print('\n'.join(failed))
sys.exit(bool(failed))
PYTHON
