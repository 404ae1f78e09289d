"""The storm: processes are killed at random, and stopped past their leases, while clients upload, ask, read and delete. At
the end every promise that was made to a client is kept, once, and every witness says so."""
import json
import os
import random
import re
import time

import e2e
import killer
import player
import verdict
from conftest import IS_LONG, LEASE_MS

KILLS = int(os.environ.get("CORDON_STORM_KILLS", 1000 if IS_LONG else 40))
RATES = {"upload": 3, "search": 1.5, "question": 1.5, "download": 1, "delete": 0.4, "tenant": 0.2, "tenants": 0.2}


DEPTHS = {
    # queue, state, how many, and which: a count that is the same again may be of others
    "ingest-worker": ("SELECT queue, state, count(*), string_agg(id || '/' || fence, ',' ORDER BY id) FROM jobs.jobs"
                      " WHERE state NOT IN ('succeeded', 'cancelled') GROUP BY 1, 2 ORDER BY 1, 2",
                      re.compile(r'^cordon_jobs\{(?=.*queue="(?P<queue>[^"]+)")(?=.*state="(?P<state>[^"]+)").*\}$')),
    "audit-writer": ("SELECT 'outbox', 'waiting', count(*), coalesce(string_agg(id::text, ',' ORDER BY id), '') || ' before ' || (SELECT sum(size) FROM audit.audit_heads)::text"
                     " FROM audit.audit_outbox", re.compile(r"^cordon_audit_backlog_rows$")),
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
                out[f"{match.groupdict().get('queue', 'outbox')} {match.groupdict().get('state', 'waiting')}"] = int(value)
        return out

    def sample(self, process, tries=5):
        with self.stack.database() as db, db.cursor() as cursor:
            def rows():
                cursor.execute(DEPTHS[process][0])
                return cursor.fetchall()
            for _ in range(tries):
                before, values, after = rows(), killer.metrics(self.stack, process), rows()
                if values and before == after:
                    self.samples += 1
                    counted = {f"{queue} {state}": count for queue, state, count, _ in before if count}
                    if self.exported(process, values) != counted:
                        self.wrong.append((process, counted, self.exported(process, values)))
                    return
        self.unstable += 1


def storm(stack, hand, seed, kills):
    """Kills at random until there were so many; every tenth is a stop past the lease instead. Depths are compared all along."""
    rng, depths = random.Random(seed), Depths(stack)
    struck = 0
    while struck < kills:
        instance = rng.choice(killer.instances(stack))
        if struck % 10 == 9:
            struck += hand.stop(instance, (LEASE_MS + rng.uniform(300, 1500)) / 1000)
        else:
            struck += hand.kill(instance, awaits=rng.random() < 0.4)
        if struck % 3 == 0:
            depths.sample(rng.choice(list(DEPTHS)))
        time.sleep(rng.uniform(0.05, 0.4))
    return depths


def test_whatever_dies_nothing_accepted_is_lost_and_nothing_is_done_twice(stack, seed, keeper, hand):
    began, before = time.monotonic(), sum(hand.counts.values())
    with player.Player(stack, keeper, seed, RATES) as clients:
        time.sleep(2)                   # something to lose
        depths = storm(stack, hand, seed, KILLS)
    storm_s = time.monotonic() - began
    report = verdict.reach(stack, keeper, hand, clients)
    for process in DEPTHS:
        depths.sample(process)
    report |= {"seed": seed, "storm_s": round(storm_s), "struck": sum(hand.counts.values()) - before,
               "depth_samples": depths.samples, "depth_unstable": depths.unstable, "depth_wrong": depths.wrong[:5]}
    print(json.dumps(report, indent=1))
    (e2e.STATE / "storm.json").write_text(json.dumps(report, indent=1))
    assert not report["violations"], "\n".join([f"seed {seed}", *report["violations"][:20]])
    assert not depths.wrong, depths.wrong[:5]
    assert depths.samples > 0 and report["told"]["upload acknowledged"] > 0 and report["told"]["question acknowledged"] > 0
