"""After a test has done its worst: wait until the system is at rest, ask every witness, and compare."""
import collections
import time

import checker
import e2e
import history
import snapshot


def reach(stack, keeper, hand, clients):
    """A report; its "violations" are what the checker found in all that this stack has been through."""
    began = time.monotonic()
    e2e.wait_for("all are back", lambda: hand.are_back(None), 60)
    e2e.wait_for("ready", stack.is_ready, 60)
    snapshot.settle(stack, 240)
    settled_s = time.monotonic() - began
    snapshot.sweep(stack)
    snapshot.settle(stack)          # the janitor puts uploads that it gives up on the record
    seen, told = snapshot.take(stack), history.read(keeper.path)
    found = checker.check(told, seen, hand.interruptions, has_idempotency=clients.has_keys)
    outcomes = collections.Counter(f"{i['what']} {i['outcome']}" for i in told)
    return {"has_keys": clients.has_keys, "settled_s": round(settled_s, 1), "told": dict(sorted(outcomes.items())),
            "by": {" ".join(k): v for k, v in sorted(hand.counts.items())}, **snapshot.summary(seen), "violations": found}
