"""What a client wanted and what it was told, one JSON object a line, synced before the client goes on. It is the only
witness that does not belong to Cordon: whatever the system says later is compared with it."""
import json
import os
import threading
import time
import uuid

OUTCOMES = ("acknowledged", "refused", "unknown")    # unknown: no answer, or one that says "perhaps" (5xx)


class History:
    def __init__(self, path):
        self.path, self.lock = path, threading.Lock()
        self.file = open(path, "ab")
        self.count = {"intended": 0, **{outcome: 0 for outcome in OUTCOMES}}

    def write(self, entry):
        line = json.dumps({**entry, "ts": time.time()}).encode() + b"\n"
        with self.lock:
            self.count[entry["outcome"] if "outcome" in entry else "intended"] += 1
            self.file.write(line)
            self.file.flush()
            os.fdatasync(self.file.fileno())

    def intend(self, what, **more):
        """Before anything is sent. Gives the id under which the outcome is told."""
        entry = {"id": uuid.uuid4().hex, "what": what, **more}
        self.write(entry)
        return entry["id"]

    def learn(self, intent, outcome, **more):
        assert outcome in OUTCOMES
        self.write({"id": intent, "outcome": outcome, **more})

    def close(self):
        self.file.close()


def read(path):
    """The intents in their order, each with what became of it: 'outcome' is 'unknown' when nobody said."""
    intents = {}
    with open(path, "rb") as file:
        for line in file:
            entry = json.loads(line)
            if "outcome" in entry:
                entry["done_ts"] = entry.pop("ts")
                intents[entry["id"]].update(entry)
            else:
                intents[entry["id"]] = {"outcome": "unknown", **entry}
    return list(intents.values())
