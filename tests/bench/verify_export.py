"""Writes an export of N events, as GET /api/v1/audit/export streams them, to standard output:
`python3 tests/bench/verify_export.py 10000000 | /usr/bin/time -v cordon-verify --no-key -` says what checking it costs."""
import base64
import hashlib
import sys

TENANT = "01920000-0000-7000-8000-00000000000a"
ORIGIN = f"test.example/audit/{TENANT}"
EVENT = (b'{"action":"search.disclose","actor_id":"01920000-0000-7000-8000-0000000000aa","detail":{"hits":2,"top_k":8},"document_ids":["01920000-0000-7000-8000-0000000000d1"],'
         b'"event_id":"01920000-0000-7000-8000-%012x","kind":"disclosure","occurred_at":"2025-12-31T23:59:59.123456Z","outcome":"success","recorded_at":"2025-12-31T23:59:59.123456Z",'
         b'"reported_by":"query","request_id":"01920000-0000-7000-8000-000000000009","seq":%d,"session_id":"01920000-0000-7000-8000-0000000000ab","tenant_id":"' + TENANT.encode() + b'","v":1}')
TILE = 256


def main(count, out):
    out.write(f'{{"cordon":"export","version":1,"origin":"{ORIGIN}","tenant_id":"{TENANT}","first":0,"events":{count},"size":{count}}}\n'.encode())
    nodes, lines, leaves = [], [], []
    for seq in range(count):
        event = EVENT % (seq, seq)
        node = hashlib.sha256(b"\0" + event).digest()
        lines.append(event)
        leaves.append(node.hex())
        left = seq
        while left & 1:
            node = hashlib.sha256(b"\1" + nodes.pop() + node).digest()
            left >>= 1
        nodes.append(node)
        if len(leaves) == TILE or seq == count - 1:
            hashes = '","'.join(leaves)
            lines.append(f'{{"cordon":"hashes","first":{seq + 1 - len(leaves)},"hashes":["{hashes}"]}}\n'.encode())
            out.write(b"\n".join(lines))
            lines, leaves = [], []
    root = nodes.pop() if nodes else hashlib.sha256(b"").digest()
    while nodes:
        root = hashlib.sha256(b"\1" + nodes.pop() + root).digest()
    note = f"{ORIGIN}\\n{count}\\n{base64.b64encode(root).decode()}\\n\\n\u2014 {ORIGIN} AAAAAAAA\\n"
    out.write(f'{{"cordon":"checkpoint","note":"{note}"}}\n{{"cordon":"end","events":{count}}}\n'.encode())


main(int(sys.argv[1]), sys.stdout.buffer)
