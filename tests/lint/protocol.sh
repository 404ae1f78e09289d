#!/bin/bash
# Messages may grow and nothing else: a replica of yesterday talks to one of today during every deployment.
# tests/lint/proto.lock holds what was ever published, one line a field, value and rpc; a line that has gone or
# changed is a break. New lines are added by --write, which refuses breaks; --write --break is for before 1.0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec /usr/bin/python3 - "$@" <<'PYTHON'
import pathlib, re, sys

LOCK = pathlib.Path('tests/lint/proto.lock')

FIELD = re.compile(r'(?:(repeated|optional)\s+)?([\w.]+)\s+(\w+)\s*=\s*(\d+)\s*(?:\[[^\]]*\])?\s*;')
RPC = re.compile(r'rpc\s+(\w+)\s*\(\s*(?:stream\s+)?([\w.]+)\s*\)\s*returns\s*\(\s*(?:stream\s+)?([\w.]+)\s*\)')

def block(text, at):
    """The text between the brace at or after `at` and its partner, and where it ends."""
    start = depth = 0
    for i in range(text.index('{', at), len(text)):
        if text[i] == '{':
            depth += 1
            start = start or i + 1
        elif text[i] == '}':
            depth -= 1
            if not depth:
                return text[start:i], i + 1
    raise SystemExit('protocol.sh: unbalanced braces')

def walk(text, scope):
    inner = []
    for m in re.finditer(r'\b(message|enum|service|oneof)\s+(\w+)\s*\{', text):
        if inner and m.start() < inner[-1][1]:
            continue
        body, end = block(text, m.start())
        inner.append((m.start(), end))
        name = f'{scope}.{m.group(2)}'
        if m.group(1) == 'message':
            yield f'message {name}'
            yield from walk(body, name)
        elif m.group(1) == 'oneof':
            yield from (line + f' oneof {m.group(2)}' for line in walk(body, scope))
        elif m.group(1) == 'enum':
            yield from (f'value {name} {number} {value}' for value, number in re.findall(r'(\w+)\s*=\s*(-?\d+)', body))
        else:
            yield from (f'rpc {name}.{rpc} {request} {reply}' for rpc, request, reply in RPC.findall(body))
    own = list(text)
    for start, end in inner:
        own[start:end] = ' ' * (end - start)
    for label, kind, name, number in FIELD.findall(''.join(own)):
        if kind not in ('package', 'syntax', 'import', 'option', 'reserved'):
            yield f'field {scope} {number} {name} {(label + " ") if label else ""}{kind}'

now = set()
for path in sorted(pathlib.Path('proto').glob('*.proto')):
    text = re.sub(r'//[^\n]*|/\*.*?\*/', '', path.read_text(), flags=re.S)
    package = re.search(r'^package\s+([\w.]+);', text, re.M).group(1)
    now.update(walk(re.sub(r'^(?:package|syntax|import|option)\b[^;]*;', '', text, flags=re.M), package))
old = set(LOCK.read_text().splitlines()) if LOCK.exists() else set()
broken, new = sorted(old - now), sorted(now - old)
if '--write' in sys.argv and (not broken or '--break' in sys.argv):
    LOCK.write_text('\n'.join(sorted(now)) + '\n')
    sys.exit(0)
for line in broken:
    print(f'published and gone or changed: {line}')
for line in new:
    print(f'new, not in the lock (tests/lint/protocol.sh --write): {line}')
sys.exit(bool(broken or new))
PYTHON
