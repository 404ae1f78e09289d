"""A witness that the machine stood still, or its disk: every 50 ms it measures how late it wakes, and how long the stack's PostgreSQL takes
to commit a message that nobody reads: it is in no table. It asks nothing of Cordon; so of what a test has measured, all but stalled()
is Cordon's own, whatever else runs beside."""
import contextlib
import threading
import time

import psycopg2

EVERY_S, LATE_S = 0.05, 0.3
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
