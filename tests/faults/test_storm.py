"""The storm: processes are killed at random, and stopped past their leases, while clients upload, ask, read and delete. At
the end every promise that was made to a client is kept, once, and every witness says so."""
import collections
import json
import os
import random
import re
import time

import checker
import e2e
import history
import killer
import player
import pytest
import snapshot
from conftest import IS_LONG, LEASE_MS

KILLS = int(os.environ.get("CORDON_STORM_KILLS", 1000 if IS_LONG else 40))
RATES = {"upload": 3, "search": 1.5, "question": 1.5, "download": 1, "delete": 0.4, "tenant": 0.2, "tenants": 0.2}


@pytest.fixture
def keeper(stack, tmp_path):
    """A history of this test alone, kept with the stack for people who look for what went wrong."""
    path = e2e.STATE / "history.jsonl"
    kept = history.History(path)
    yield kept
    kept.close()


DEPTHS = {
    "ingest-worker": ("SELECT queue, state, count(*) FROM jobs.jobs WHERE state <> 'succeeded' GROUP BY 1, 2 ORDER BY 1, 2",
                      re.compile(r'^cordon_jobs\{(?=.*queue="(?P<queue>[^"]+)")(?=.*state="(?P<state>[^"]+)").*\}$')),
    "audit-writer": ("SELECT 'outbox', 'waiting', count(*) FROM audit.audit_outbox", re.compile(r"^cordon_audit_backlog_rows$")),
}


class Depths:
    """Compares the metrics of queues with their rows: rows before and after that are the same must be what was exported between."""
    def __init__(self, stack):
        self.stack, self.samples, self.unstable, self.wrong = stack, 0, 0, []

    @staticmethod
    def exported(process, values):
        pattern, out = DEPTHS[process][1], {}
        for name, value in values.items():
            match = pattern.match(name)
            if match and value:
                out[(match.groupdict().get("queue", "outbox"), match.groupdict().get("state", "waiting"))] = int(value)
        return out

    def sample(self, process, tries=5):
        with self.stack.database() as db, db.cursor() as cursor:
            def rows():
                cursor.execute(DEPTHS[process][0])
                return {(queue, state): count for queue, state, count in cursor.fetchall() if count}
            for _ in range(tries):
                before, values, after = rows(), killer.metrics(self.stack, process), rows()
                if values and before == after:
                    self.samples += 1
                    if self.exported(process, values) != before:
                        self.wrong.append((process, before, self.exported(process, values)))
                    return
        self.unstable += 1


def storm(stack, seed, kills):
    """Kills at random until there were so many; every tenth is a stop past the lease instead. Depths are compared all along."""
    rng, hand, depths = random.Random(seed), killer.Killer(stack), Depths(stack)
    for n in range(kills):
        process = rng.choice(e2e.PROCESSES)
        if n % 10 == 9:
            hand.stop(process, (LEASE_MS + rng.uniform(300, 1500)) / 1000)
        else:
            hand.kill(process, awaits=rng.random() < 0.7)
        depths.sample(rng.choice(list(DEPTHS)))
        time.sleep(rng.uniform(0.05, 0.6))
    return hand, depths


def test_whatever_dies_nothing_accepted_is_lost_and_nothing_is_done_twice(stack, seed, keeper):
    began = time.monotonic()
    with player.Player(stack, keeper, seed, RATES) as clients:
        time.sleep(2)                   # something to lose
        hand, depths = storm(stack, seed, KILLS)
    storm_s = time.monotonic() - began
    for process in e2e.PROCESSES:
        e2e.wait_for(f"{process} back", lambda: killer.metrics(stack, process), 60)
    e2e.wait_for("ready", stack.is_ready, 60)
    settling = time.monotonic()
    snapshot.settle(stack, 180)
    settle_s = time.monotonic() - settling
    for process in DEPTHS:
        depths.sample(process)
    seen, told = snapshot.take(stack), history.read(keeper.path)
    outcomes = collections.Counter(f"{i['what']} {i['outcome']}" for i in told)
    found = checker.check(told, seen, hand.interruptions, orphans_allowed=orphans_allowed(hand, told), has_idempotency=clients.has_keys)
    report = {"seed": seed, "kills": sum(hand.counts.values()), "seconds": round(storm_s), "settled_s": round(settle_s, 1),
              "by": {" ".join(k): v for k, v in sorted(hand.counts.items())}, "told": dict(sorted(outcomes.items())), **snapshot.summary(seen),
              "depth_samples": depths.samples, "depth_unstable": depths.unstable, "violations": len(found)}
    print(json.dumps(report, indent=1))
    (e2e.STATE / "storm.json").write_text(json.dumps({**report, "violations": found}, indent=1))
    assert not found, "\n".join([f"seed {seed}", *found[:20]])
    assert not depths.wrong, depths.wrong[:5]
    assert depths.samples > 0 and outcomes["upload acknowledged"] > 0 and outcomes["question acknowledged"] > 0
    assert seen.outbox == 0


def orphans_allowed(hand, told):
    """Originals of uploads that were cut between store and commit wait for the janitor; there are at most as many as uploads
    that nobody acknowledged."""
    return sum(1 for i in told if i["what"] == "upload" and i["outcome"] != "acknowledged") if hand.counts else 0

