"""What PostgreSQL can do to us: it dies, is killed, ends our connections, has no room, refuses to write, refuses more
connections, gets slow, or falls silent. Meanwhile users are told to come again (503, Retry-After, a code), no process ends;
afterwards service is back within 3 s of the database, and every accepted document gets ready, once."""
import concurrent.futures
import os
import pathlib
import signal
import subprocess
import threading
import time
import uuid

import psycopg2
import pytest
import requests

from detours import IS_LONG, recovers

RECOVERY_S = 3


@pytest.fixture(autouse=True)
def token(detoured):
    detoured.token()        # made while all is well


class Clients:
    """Upload and search without a pause, and remember what was said."""

    def __init__(self, stack, count=3):
        self.stack, self.stopping = stack, threading.Event()
        self.accepted, self.answers, self.wrong, self.lock = {}, {}, [], threading.Lock()
        self.threads = [threading.Thread(target=self.play, args=(n,), daemon=True) for n in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive(), "a request hangs"

    def play(self, number):
        while not self.stopping.is_set():
            text = f"Note of client {number}: {uuid.uuid4()}".encode()
            self.one(lambda: self.stack.upload(text, timeout=60), text)
            self.one(lambda: self.stack.call("GET", "/api/v1/documents?limit=1", timeout=60), None)
            self.stopping.wait(0.02)

    def one(self, ask, text):
        began = time.monotonic()
        try:
            answer = ask()
        except requests.RequestException as error:
            with self.lock:
                self.wrong.append(repr(error))
            return
        code = None if answer.status_code < 400 else answer.json()["code"]
        with self.lock:
            key = (answer.status_code, code)
            self.answers[key] = self.answers.get(key, 0) + 1
            if answer.status_code == 202:
                self.accepted[answer.json()["document_id"]] = text
            if answer.status_code >= 400 and (answer.status_code not in (503, 504) or
                                              (answer.status_code == 503 and "Retry-After" not in answer.headers)):
                self.wrong.append((answer.status_code, answer.text, dict(answer.headers)))
            if time.monotonic() - began > 20:
                self.wrong.append(f"an answer took {time.monotonic() - began:.1f} s: {key}")

    def check(self, some_refused=True):
        assert not self.wrong, self.wrong[:5]
        assert self.accepted
        assert not some_refused or any(status >= 500 for status, _ in self.answers), self.answers
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for document in pool.map(lambda one: self.stack.wait_ready(one, 90), self.accepted):
                assert document["status"] == "ready", document
        for document, text in list(self.accepted.items())[-10:]:
            assert self.stack.call("GET", f"/api/v1/documents/{document}/content").content == text
        with self.stack.database() as db, db.cursor() as cursor:
            cursor.execute("""SELECT count(*), count(DISTINCT (document_id, ordinal)),
                                     (SELECT count(DISTINCT k.id) FROM app.chunks k JOIN app.text_vectors v USING (tenant_id, text_blind)
                                      WHERE k.document_id = ANY(%(ids)s::uuid[]))
                              FROM app.chunks WHERE document_id = ANY(%(ids)s::uuid[])""", {"ids": list(self.accepted)})
            chunks, distinct, vectors = cursor.fetchone()
            assert chunks == distinct == vectors == len(self.accepted)
            cursor.execute("SELECT count(*) FROM jobs.jobs WHERE document_id = ANY(%s::uuid[]) AND state <> 'succeeded'", (list(self.accepted),))
            assert cursor.fetchone() == (0,)


def postmaster(stack):
    return int((pathlib.Path(stack.info["postgres"]["data"]) / "postmaster.pid").read_text().splitlines()[0])


def database_answers(stack):
    try:
        with stack.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            return cursor.fetchone() == (False,)
    except psycopg2.OperationalError:
        return False


def accepts(stack):
    return stack.upload(f"After the trouble, {uuid.uuid4()}".encode(), timeout=30).status_code == 202 and \
        stack.call("POST", "/api/v1/search", json={"question": "What is noted?"}, timeout=30).status_code == 200


def measure_recovery(stack, what):
    """From the moment that the database answers."""
    stack.wait_for("the database answers", lambda: database_answers(stack), 60)
    recovers(stack, f"PostgreSQL {what}", lambda: accepts(stack), RECOVERY_S)


def wait_until_accepted(stack, clients, count):
    stack.wait_for(f"{count} accepted", lambda: len(clients.accepted) >= count, 60)


def refused(clients):
    return sum(count for (status, _), count in clients.answers.items() if status >= 500)


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL], ids=["immediate-restart", "kill-9"])
def test_the_server_dies(broken, how):
    with Clients(broken) as clients:
        wait_until_accepted(broken, clients, 5)
        old = postmaster(broken)
        os.kill(old, how)           # its supervisor starts another
        broken.wait_for("a new server", lambda: postmaster(broken) != old, 60)
        measure_recovery(broken, "killed" if how == signal.SIGKILL else "restarted immediately")
    clients.check()


def test_the_server_is_away_for_a_while(broken):
    with Clients(broken) as clients:
        wait_until_accepted(broken, clients, 5)
        broken.proxy.set("postgres", refuse=True)
        broken.proxy.end("postgres")
        broken.wait_for("refused", lambda: refused(clients) > 20, 30)
        broken.proxy.clear("postgres")
        measure_recovery(broken, "away")
    clients.check()


def test_connections_are_ended_every_100_ms(broken):
    until = time.monotonic() + (60 if IS_LONG else 4)
    with Clients(broken) as clients, broken.database() as db, db.cursor() as cursor:
        while time.monotonic() < until:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'cordon\\_%%' "
                           "AND usename <> 'cordon_admin' ORDER BY random() LIMIT 4")
            time.sleep(0.1)
        measure_recovery(broken, "ending connections every 100 ms")
    clients.check(some_refused=False)


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("at", [0, 40, 700, 3000] if IS_LONG else [700])
def test_connections_are_cut_at_any_byte(broken, direction, at):
    """Also between a COMMIT and its answer: what is in doubt is found out, not done twice."""
    with Clients(broken) as clients:
        wait_until_accepted(broken, clients, 3)
        for _ in range(10 if IS_LONG else 3):
            broken.proxy.set("postgres", **{direction: {"cut_at": at, "cut_times": 6}})
            time.sleep(0.4)
        broken.proxy.clear("postgres")
        measure_recovery(broken, f"cut after {at} bytes {direction}")
    clients.check(some_refused=False)


def test_a_black_hole(broken):
    """Nothing arrives and nothing is refused: answers still come in their time."""
    with Clients(broken) as clients:
        wait_until_accepted(broken, clients, 3)
        broken.proxy.set("postgres", up={"hold": True}, down={"hold": True})
        time.sleep(8 if IS_LONG else 4)
        broken.proxy.clear("postgres")
        measure_recovery(broken, "silent for seconds")
    clients.check(some_refused=False)


@pytest.mark.skipif(not IS_LONG, reason="--long")
def test_a_slow_line(broken):
    with Clients(broken, 2) as clients:
        broken.proxy.set("postgres", up={"delay_ms": 30}, down={"delay_ms": 30, "bytes_per_s": 200_000})
        wait_until_accepted(broken, clients, 4)
        broken.proxy.clear("postgres")
    clients.check(some_refused=False)


def test_no_more_connections_are_given(broken):
    with broken.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'cordon\\_%%' AND rolcanlogin AND NOT rolsuper")
        roles = [row[0] for row in cursor.fetchall()]
        try:
            for role in roles:
                cursor.execute(f"ALTER ROLE {role} CONNECTION LIMIT 2")
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY(%s)", (roles,))
            with Clients(broken) as clients:
                wait_until_accepted(broken, clients, 10)
        finally:
            for role in roles:
                cursor.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
    measure_recovery(broken, "out of connections")
    clients.check(some_refused=False)


def is_standby(stack):
    try:
        with stack.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            return cursor.fetchone()[0]
    except psycopg2.OperationalError:
        return False


def test_a_standby_before_its_promotion(broken):
    """The name of the database leads to a server that may only be read, as in the middle of a failover."""
    with Clients(broken) as clients:
        wait_until_accepted(broken, clients, 3)
        (pathlib.Path(broken.info["postgres"]["data"]) / "standby.signal").touch()
        os.kill(postmaster(broken), signal.SIGINT)
        broken.wait_for("a standby", lambda: is_standby(broken), 60)
        seen = refused(clients)
        broken.wait_for("refused", lambda: refused(clients) > seen + 10, 30)
        with broken.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT pg_promote()")
        measure_recovery(broken, "promoted")
    clients.check()


@pytest.fixture
def full_disk(broken):
    """A tablespace on a small tmpfs, to which the chunks and the queue move; full on demand."""
    folder = pathlib.Path(broken.info["state"]) / "small-disk"
    folder.mkdir(mode=0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "none", folder], check=True)
    tables = ["app.documents", "app.chunks", "jobs.jobs"]
    try:
        space = folder / "space"
        space.mkdir(mode=0o700)
        owner = pathlib.Path(broken.info["postgres"]["data"]).stat()
        os.chown(space, owner.st_uid, owner.st_gid)
        with broken.database() as db, db.cursor() as cursor:
            cursor.execute("CREATE TABLESPACE small LOCATION %s", (str(space),))
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} SET TABLESPACE small")
        yield folder
    finally:
        (folder / "ballast").unlink(missing_ok=True)
        with broken.database() as db, db.cursor() as cursor:
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} SET TABLESPACE pg_default")
            cursor.execute("CHECKPOINT")
            cursor.execute("DROP TABLESPACE IF EXISTS small")
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def fill(folder):
    with open(folder / "ballast", "ab", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_the_disk_is_full(broken, full_disk):
    with Clients(broken) as clients:
        wait_until_accepted(broken, clients, 3)
        fill(full_disk)
        broken.wait_for("refused", lambda: refused(clients) > 5, 60)
        (full_disk / "ballast").unlink()
        measure_recovery(broken, "out of disk")
    clients.check()
