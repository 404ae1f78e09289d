"""A witness that the machine stood still, or its disk: every 50 ms it measures how late it wakes, and how long the stack's PostgreSQL takes
to commit a message that nobody reads: it is in no table. It asks nothing of Cordon; so of what a test has measured, all but stalled()
is Cordon's own, whatever else runs beside."""
import contextlib
import threading
import time

import psycopg2

EVERY_S, LATE_S = 0.05, 0.3
GIVES_UP_S = 0.75       # whoever waits for a record is told so after 0.8 s (common/audit/client.c)
MESSAGE = "SELECT pg_logical_emit_message(true, 'pulse', '')"


class Pulse:
    def __init__(self, stack):
        self.stack, self.stalls, self.due, self.is_over = stack, [], None, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join(10)

    def stalled(self, began, ended):
        """Seconds of this time, by time.time(), in which something stood still."""
        due = self.due
        lasting = [(due, time.time())] if due and time.time() - due > LATE_S else []
        return sum(max(0, min(high, ended) - max(low, began)) for low, high in [*self.stalls, *lasting])

    @contextlib.contextmanager
    def over_by(self, due):
        """What fails is no stall, however long it took."""
        self.due = due
        try:
            yield
            if (now := time.time()) - due > LATE_S:
                self.stalls.append((due, now))
        finally:
            self.due = None

    def rest(self):
        with self.over_by(time.time() + EVERY_S):
            self.is_over.wait(EVERY_S)

    def run(self):
        while not self.is_over.is_set():
            with contextlib.suppress(psycopg2.Error), self.stack.database() as db, db.cursor() as cursor:
                while not self.is_over.is_set():
                    with self.over_by(time.time()):
                        cursor.execute(MESSAGE)
                    self.rest()
            self.rest()         # it dies and comes back, or is a standby for a while


def is_excused(pulse, began, ended, answer):
    """Refused as it should be: the record had not come in its time, while the machine or its disk stood still. What is refused sooner, or at
    another time, or for another reason, is not."""
    is_for_the_record = getattr(answer, "status_code", 0) == 503 and answer.json().get("code") == "AUDIT_001" and "Retry-After" in answer.headers
    return is_for_the_record and ended - began > GIVES_UP_S and pulse.stalled(began, ended) > 0


def failures(pulse, asked):
    """What came of those of [(began, ended, answer or exception)] that did not come through and are not excused."""
    refused = [row for row in asked if getattr(row[2], "status_code", 0) not in (200, 202)]
    counted = [answer for began, ended, answer in refused if not is_excused(pulse, began, ended, answer)]
    print(f"{len(asked)} asked, {len(refused) - len(counted)} of them excused")
    return [(getattr(answer, "status_code", 0), getattr(answer, "text", repr(answer))) for answer in counted]
