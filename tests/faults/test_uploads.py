"""Uploads of any size in bounded memory, uploads that are cut anywhere, and what is left of them: nothing. By default a
small form; with CORDON_TEST_LONG the sizes and numbers that are promised."""
import base64
import concurrent.futures
import hashlib
import random
import secrets
import socket
import sqlite3
import threading
import time
import urllib.parse
import uuid

import e2e
import killer
import pytest
import test_points
from conftest import IS_LONG

BIG = 10 << 30 if IS_LONG else 200 << 20
CUTS = 10000 if IS_LONG else 200
ASIDE, ALL_ASIDE, PART = 4, 16, 12 << 20    # parts that go to the store beside the one that fills: of one upload, of all; with what buffer and allocator have to spare
SETTINGS = {"edge": {"CORDON_MAX_UPLOAD_BYTES": 11 << 30}, "ingest-worker": {"CORDON_MAX_UPLOAD_BYTES": 11 << 30, "CORDON_UPLOAD_LEASE_MS": 3000}}


def uuid7():
    return str(uuid.UUID(int=(int(time.time() * 1000) << 80) | (7 << 76) | (secrets.randbits(12) << 64) | (2 << 62) | secrets.randbits(62)))


@pytest.fixture(scope="module")
def wide(stack):
    """The stack with a limit that lets the big ones in, and leases that are soon over."""
    files = {process: {e2e.STATE / "secrets" / replica / name: value for replica in killer.instances(stack, process) for name, value in settings.items()}
             for process, settings in SETTINGS.items()}
    for process, values in files.items():
        for file, value in values.items():
            file.write_text(f"{value}\n")
        stack.cordon("restart", process)
    e2e.wait_for("ready", lambda: stack.is_ready() and post(stack, b"warm").status_code == 202)
    yield stack
    for process, values in files.items():
        for file in values:
            file.unlink()
        stack.cordon("restart", process)
    e2e.wait_for("ready", stack.is_ready)


def zeros(size):
    """Sent as a PDF, which its first bytes show not to be one: work on it ends before it costs anything."""
    piece = bytes(1 << 20)
    for at in range(0, size, len(piece)):
        yield piece[:size - at]


PDF = {"Content_Type": "application/pdf"}


def post(stack, body, **headers):
    return stack.call("POST", "/api/v1/documents", data=body, timeout=1000,
                      headers={"Content-Type": "text/plain"} | {name.replace("_", "-"): value for name, value in headers.items()})


def stored():
    """What the stand-in for S3 holds: keys of documents' objects, of shares of keys, and of multipart uploads that are not over."""
    database = sqlite3.connect(f"file:{urllib.parse.quote(str(e2e.STATE / 'cloud/s3/objects.db'))}?mode=ro", uri=True, timeout=10)
    try:
        kept = database.execute("SELECT bucket, key FROM versions WHERE key LIKE 'tenants/%' AND marker = 0").fetchall()
        return ({key for bucket, key in kept if bucket == "cordon-documents"}, {key for bucket, key in kept if bucket == "cordon-shares"},
                {key for key, in database.execute("SELECT key FROM uploads WHERE key LIKE 'tenants/%'")})
    finally:
        database.close()


def ask(stack, sql, *values):
    with stack.database() as connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else None


def documents(stack):
    return {f"tenants/{tenant}/{document}" for tenant, document in ask(stack, "SELECT tenant_id, id FROM app.documents")}


def await_janitor(stack):
    """Until every upload is either over or given up and cleared away for the first time. Who was killed in it leaves it leased for two minutes."""
    def is_swept():
        ask(stack, "UPDATE jobs.schedules SET next_run_at = now() WHERE name = 'janitor' AND next_run_at > now()")
        return ask(stack, "SELECT count(*) FROM app.uploads WHERE swept_at IS NULL OR sweep_after < swept_at + interval '19 min'") == [(0,)]
    e2e.wait_for("the janitor", is_swept, 300, 1)


def put_off_janitor(stack):
    """It does not come before it is awaited, and is not there now."""
    put_off = "UPDATE jobs.schedules SET next_run_at = now() + interval '10 min' WHERE name = 'janitor' AND lease_until IS NULL RETURNING 1"
    e2e.wait_for("the janitor is away", lambda: ask(stack, put_off), 300, 0.5)


@pytest.fixture(autouse=True, name="earlier_shares")
def shares_of_earlier_tests(wide):
    """Killed questions leave shares of conversations that never came to be; here nobody asks any."""
    return stored()[1]


def expect_no_orphans(stack, earlier_shares):
    objects, shares, multiparts = stored()
    assert multiparts == set()
    assert objects - documents(stack) == set()
    assert shares - earlier_shares - documents(stack) == set()


class Watch:
    """The most memory that each replica takes while this is open, beyond what it took before."""

    def __init__(self, stack):
        self.pids = {name: killer.pid_of(stack, name) for process in ("edge", "ingest-worker") for name in killer.instances(stack, process)}
        self.before = {name: self.rss(name) for name in self.pids}
        self.most, self.is_over = dict(self.before), threading.Event()
        self.thread = threading.Thread(target=self.run)

    def rss(self, name):
        lines = open(f"/proc/{self.pids[name]}/status", encoding="ascii").read()
        return int(lines.partition("VmRSS:")[2].split()[0]) << 10

    def run(self):
        while not self.is_over.wait(0.1):
            for name in self.pids:
                self.most[name] = max(self.most[name], self.rss(name))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()
        self.grown = {name: self.most[name] - self.before[name] for name in self.pids}

    def most_of(self, process):
        return max(grown for name, grown in self.grown.items() if name.partition(".")[0] == process)


def test_a_big_upload_passes_through_in_bounded_memory(wide):
    assert post(wide, zeros(20 << 20), **PDF).status_code == 202                 # warm: threads, connections, allocator
    with Watch(wide) as watch:
        began = time.monotonic()
        answer = post(wide, zeros(BIG), **PDF)
        took = time.monotonic() - began
    print(f"{BIG >> 20} MiB in {took:.1f} s, {BIG / took / 1e6:.0f} MB/s; grown by {watch.grown}")
    assert answer.status_code == 202, answer.text
    assert watch.most_of("edge") <= 4 << 20, watch.grown
    assert watch.most_of("ingest-worker") <= (16 << 20) + ASIDE * PART, watch.grown
    assert wide.call("DELETE", f"/api/v1/documents/{answer.json()['document_id']}").status_code == 204


def test_ten_uploads_at_once_stay_bounded(wide):
    size = 1 << 30 if IS_LONG else 20 << 20
    with Watch(wide) as watch, concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: post(wide, zeros(size), **PDF), range(10)))
    print(f"ten of {size >> 20} MiB; grown by {watch.grown}")
    assert [answer.status_code for answer in answers] == [202] * 10
    assert watch.most_of("edge") <= 20 << 20, watch.grown
    assert watch.most_of("ingest-worker") <= 10 * (16 << 20) + ALL_ASIDE * PART, watch.grown


def cut(stack, token, size, at):
    """Announce size bytes, send some of them, and go."""
    head = (f"POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {size}\r\n\r\n").encode()
    whole = head + bytes(max(0, at - len(head)))
    address = urllib.parse.urlsplit(stack.url)
    try:
        with socket.create_connection((address.hostname, address.port), timeout=30) as client:
            client.sendall(whole[:at])
    except OSError:
        pass                                    # refused before it was cut


def test_uploads_cut_anywhere_leave_no_document_and_no_object(wide, seed, earlier_shares):
    chance, token, before = random.Random(seed), wide.token(), documents(wide)
    sizes = [chance.randrange(7 << 20, 9 << 20) if n % 50 == 0 else chance.randrange(1, 600000) for n in range(CUTS)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(cut, wide, token, size, chance.randrange(size)) for size in sizes]:
            job.result()
    e2e.wait_for("no upload is under way", lambda: ask(wide, "SELECT count(*) FROM app.uploads WHERE swept_at IS NULL") == [(0,)], 120, 0.5)
    assert documents(wide) == before
    expect_no_orphans(wide, earlier_shares)


def test_what_a_killed_worker_was_doing_is_cleared_away(wide, hand, earlier_shares):
    """Half of each upload is sent, so that none of them can become a document; then the worker dies."""
    if not ask(wide, "SELECT 1 FROM jobs.schedules WHERE last_started_at IS NOT NULL"):
        pytest.skip("nobody runs schedules in this build")
    put_off_janitor(wide)       # who would clear away some before all are there
    before, token, size = documents(wide), wide.token(), 16 << 20
    address = urllib.parse.urlsplit(wide.url)
    clients = []
    for _ in range(4):
        client = socket.create_connection((address.hostname, address.port), timeout=30)
        client.sendall((f"POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: text/plain\r\n"
                        f"Content-Length: {size}\r\n\r\n").encode() + bytes(size // 2))
        clients.append(client)
    e2e.wait_for("multipart uploads", lambda: len(stored()[2]) == 4)
    for name in killer.instances(wide, "ingest-worker"):
        assert hand.kill(name)
    for client in clients:
        client.close()
    assert len(stored()[2]) == 4
    await_janitor(wide)
    assert documents(wide) == before
    expect_no_orphans(wide, earlier_shares)


def test_an_upload_is_followed_from_its_first_byte_to_the_end(wide):
    document_id, gate, text = uuid7(), threading.Event(), "The dose of metoprolol was halved.\n" * 40000

    def body():
        half = len(text) // 2
        yield text[:half].encode()
        assert gate.wait(60)
        yield text[half:].encode()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        upload = pool.submit(post, wide, body(), Cordon_Document_Id=document_id)
        path = f"/api/v1/documents/{document_id}"
        e2e.wait_for("it is seen", lambda: wide.call("GET", path).status_code == 200)
        seen = wide.call("GET", path).json()["document"]
        assert seen["status"] == "uploading"
        listed = wide.call("GET", "/api/v1/documents?status=uploading").json()["documents"]
        assert [row["id"] for row in listed] == [document_id]
        assert wide.call("GET", path, tenant="lakeside").status_code == 404
        assert post(wide, b"another", Cordon_Document_Id=document_id).json()["code"] == "DOC_008"
        gate.set()
        assert upload.result().json()["document_id"] == document_id
    assert wide.call("GET", path).json()["document"]["status"] in ("processing", "ready")
    assert wide.wait_ready(document_id)["status"] == "ready"


def test_killed_between_commit_and_answer_the_retry_finds_the_one_document(wide, hand):
    key, body, before = str(uuid.uuid4()), b"Discharged in good condition.", documents(wide)
    name = test_points.arm(wide, "upload.committed", "ingest-worker", "kill")
    first = post(wide, body, Idempotency_Key=key)
    assert first.status_code == 503, first.text
    dead = test_points.fired(wide, name)
    assert len(dead) == 1
    (wide.faults / name).unlink(missing_ok=True)
    for mark in wide.faults.glob(f"{name}.fired.*"):
        mark.unlink()
    e2e.wait_for("back", lambda: hand.are_back("ingest-worker", dead[0]), 60)
    again = e2e.wait_for("answer", lambda: next((a for a in [post(wide, body, Idempotency_Key=key)] if a.status_code not in (409, 503)), None), 60)
    assert again.status_code == 202, again.text
    assert post(wide, body, Idempotency_Key=key).json() == again.json()
    assert len(documents(wide) - before) == 1
    assert again.json()["document_id"] in (documents(wide) - before).pop()
    other = post(wide, b"Something else.", Idempotency_Key=key)
    assert (other.status_code, other.json()["code"]) == (409, "IDEM_001")


def test_a_digest_that_does_not_fit_leaves_nothing(wide, earlier_shares):
    before = documents(wide)
    good, bad = b"a" * 300000, b"b" * 300000

    def digest(name, data):
        return f"{name}=:{base64.b64encode(hashlib.new(name.replace('-', ''), data).digest()).decode()}:"
    for name in ("sha-256", "sha-512"):
        refused = post(wide, bad, Content_Digest=digest(name, good))
        assert (refused.status_code, refused.json()["code"]) == (400, "DOC_007")
    assert documents(wide) == before
    assert post(wide, good, Content_Digest=f"{digest('sha-256', good)}, {digest('sha-512', good)}").status_code == 202
    expect_no_orphans(wide, earlier_shares)
