"""Links between our own processes that are slow, cut at any byte, half closed, refused or silent: calls are sent to where
they can be answered or end with a code; none waits past its deadline, and nothing is lost or done twice."""
import time

import pytest

from detours import BUS, IS_LONG, recovers
from test_postgres import Clients, accepts, wait_until_accepted

RECOVERY_S = 5
KINDS = {
    "delay": dict(up={"delay_ms": 100}, down={"delay_ms": 100}),
    "cut-reset": dict(up={"cut_at": 2000, "cut_how": "reset"}),
    "cut-close": dict(down={"cut_at": 500, "cut_how": "close"}),
    "cut-handshake": dict(down={"cut_at": 64, "cut_how": "reset"}),
    "half-closed": dict(down={"cut_at": 700, "cut_how": "half"}),
    "refused": dict(refuse=True),
    "silent": dict(up={"hold": True}, down={"hold": True}),
    "silent-answers": dict(down={"hold": True}),
}
CASES = [(kind, callee) for kind in KINDS for callee in BUS] if IS_LONG else [
    ("cut-reset", "ingest-worker"), ("half-closed", "audit-writer"), ("silent", "query")]


@pytest.mark.parametrize("kind,callee", CASES)
def test_a_link_breaks(broken, kind, callee):
    broken.token()
    with Clients(broken, 2) as clients:
        wait_until_accepted(broken, clients, 2)
        broken.proxy.set(callee, **KINDS[kind])
        if kind == "refused":
            broken.proxy.end(callee)
        time.sleep(8 if IS_LONG else 3)         # long enough for a handshake, and for a heartbeat to be missed
        broken.proxy.clear(callee)
        recovers(broken, f"bus to {callee} {kind}", lambda: accepts(broken), RECOVERY_S)
    clients.check(some_refused=False)
