"""The witness of stalls tells what stood still, and nothing else: what it says excuses others."""
import os
import signal
import time

import psycopg2
import pytest

from pulse import MESSAGE, Pulse


def test_what_took_too_long_is_told_as_far_as_it_lies_in_the_time_asked_for():
    witness, now = Pulse(None), time.time()
    for late_s in (0.1, 2):
        with witness.over_by(now - late_s):
            pass
    assert witness.stalled(now - 10, now) == pytest.approx(2, abs=0.1)
    assert witness.stalled(now - 1.5, now - 0.5) == pytest.approx(1)
    assert witness.stalled(now - 10, now - 5) == 0


def test_what_failed_is_no_stall():
    witness = Pulse(None)
    with pytest.raises(psycopg2.OperationalError), witness.over_by(time.time() - 5):
        raise psycopg2.OperationalError
    assert witness.stalled(0, time.time()) == 0


def test_a_commit_that_does_not_come_is_a_stall_while_it_lasts_and_afterwards(detoured):
    def server():
        with detoured.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT pid FROM pg_stat_activity WHERE query = %s", (MESSAGE,))
            return (cursor.fetchone() or [None])[0]
    pid, began = detoured.wait_for("it pulses", server), time.time()
    os.kill(pid, signal.SIGSTOP)
    try:
        detoured.wait_for("the stall is seen", lambda: detoured.pulse.stalled(began, time.time()) > 0.5, 10)
    finally:
        os.kill(pid, signal.SIGCONT)
    ended = time.time()
    detoured.wait_for("it is over", lambda: detoured.pulse.stalls and detoured.pulse.stalls[-1][1] > ended - 0.1, 10)
    assert 0.5 < detoured.pulse.stalled(began, ended) <= ended - began
