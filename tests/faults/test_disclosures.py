"""Fail closed under load: while audit-writer is killed, stopped, given a database that is read-only, or cut off, clients
count the bytes of documents that reach them. Each disclosure is on the record before its first byte; every other answer is
a 503 that comes soon and shows nothing; and all is well again when the trouble ends, without an operator.

CORDON_DISCLOSURES says how many are to come (300; with --long 1,000,000), CORDON_DISCLOSURES_CLIENTS how many ask at once. What has
come is compared with the log after each trouble and then forgotten, so that the length costs no memory; a line a minute says how far it is.
Nothing is waited for without an end."""
import collections
import contextlib
import datetime
import heapq
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest
import requests

import killer
from detours import IS_LONG, detoured_stack, note_recovery

DISCLOSURES = int(os.environ.get("CORDON_DISCLOSURES", 1000000 if IS_LONG else 300))
IS_MANY = DISCLOSURES >= 10000
CLIENTS = int(os.environ.get("CORDON_DISCLOSURES_CLIENTS", 16 if IS_MANY else 6))
DOCUMENTS, APPENDERS = 4, 6
PAUSE_S = (0.5, 4) if IS_MANY else (0.2, 1.5)       # between two troubles
PROGRESS_S = 60
ANSWER_S = 30                            # an answer that takes longer has not come
REFUSED_S = 1.0
APPEND_MS, FURTHER_MS = 800, 2 * 500     # common/audit/client.c: for one event; for those that a question puts on the record later
WAKE_MS = 150 if IS_LONG else 400        # how late a thread may wake on a busy machine; beside other lanes also after a stall too short for Pulse to tell
LATE_SHARE, MOST_MS = 0 if IS_LONG else 0.02, 5000      # of all refusals; the longest of them
RECOVERED_S = 20
SLACK_S = 0.010         # one clock, read twice
CANARY = re.compile(rb"canary-[0-9a-f]{12}")
REQUEST_ID = re.compile(rb"(?i)\r\nX-Request-ID: *([0-9a-f-]{36})")
STREAM = "Accept: text/event-stream\r\n"

# What is asked for: how often in 200, under which action it must be on the record, and whose id, of a document or a package, the event names.
Kind = collections.namedtuple("Kind", "weight method path action named headers role", defaults=(None, "", "clinician"))
KINDS = {
    "document":     Kind(67, "GET", "/api/v1/documents/{document}", "document.read", "document"),
    "patient":      Kind(38, "GET", "/api/v1/documents?subject_id={subject}", "document.list", "document"),
    "answer":       Kind(24, "GET", "/api/v1/query/{answer}", "answer.read", "document"),
    "conversation": Kind(20, "GET", "/api/v1/conversations/{conversation}", "conversation.read", "document"),
    "list":         Kind(16, "GET", "/api/v1/documents?limit=5", "document.list"),
    "content":      Kind(8, "GET", "/api/v1/documents/{document}/content", "document.content.read", "document"),
    "replay":       Kind(14, "GET", "/api/v1/query/{answer}", "answer.read", "document", STREAM),
    "range":        Kind(6, "GET", "/api/v1/documents/{document}/content", "document.content.read", "document", "Range: bytes=4-\r\n"),
    "search":       Kind(2, "POST", "/api/v1/search", "search.disclose"),
    "receipt":      Kind(2, "GET", "/api/v1/query/{answer}/receipt?open=true", "answer.receipt.read"),
    "question":     Kind(1, "POST", "/api/v1/query", "answer.disclose"),
    "stream":       Kind(1, "POST", "/api/v1/query", "answer.disclose", None, STREAM),
    "package":      Kind(1, "GET", "/api/v1/evidence/{package}/content", "evidence.download", "package", "", "admin"),
}
if not IS_MANY:
    del KINDS["package"]        # it is made for seconds
SEVERAL = ("search", "question", "stream")      # these put more than one event on the record
QUESTION = {"question": "What does the canary sing?", "top_k": 2}
# first, headed: when the first byte came and how many seconds the head took; bytes: of a body that shows something
Answer = collections.namedtuple("Answer", "kind status request_id bytes is_canary first headed thing problem")


class Counting:
    """Threads that ask until so many disclosures have come, of every kind; each answer is written down as its bytes arrived."""

    def __init__(self, stack, things, seed, wanted):
        self.stack, self.things, self.wanted, self.seed = stack, things, wanted, seed
        edge = urllib.parse.urlsplit(stack.url)
        self.address = (edge.hostname, edge.port)
        self.lock, self.answers, self.shown, self.unseen, self.broken = threading.Lock(), [], 0, set(KINDS), []
        self.last_shown = 0.0
        self.stopping = threading.Event()
        self.threads = []
        self.renew()

    def start(self):
        self.stopping.clear()
        self.seed += CLIENTS
        self.threads = [threading.Thread(target=self.play, args=(random.Random(self.seed + n),), daemon=True) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def request(self, kind, thing):
        row, body = KINDS[kind], json.dumps(QUESTION) if KINDS[kind].method == "POST" else ""
        about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        return (f"{row.method} {row.path.format(**thing)} HTTP/1.1\r\nHost: {self.address[0]}:{self.address[1]}\r\n"
                f"Authorization: Bearer {self.tokens[row.role]}\r\n{row.headers}{about}\r\n{body}").encode()

    def once(self, kind, thing):
        """One connection, as the edge keeps none; without a library, which would be the slowest part of a fast answer."""
        request, told, first, headed, began = self.request(kind, thing), b"", None, None, time.time()
        try:
            with socket.create_connection(self.address, timeout=ANSWER_S) as connection:
                connection.sendall(request)
                while portion := connection.recv(65536):
                    first = first or time.time()
                    told += portion
                    headed = headed or (b"\r\n\r\n" in told and time.time() - began)
                    connection.settimeout(max(0.001, began + ANSWER_S - time.time()))
        except OSError:
            pass
        head, _, body = told.partition(b"\r\n\r\n")
        request_id, is_canary = REQUEST_ID.search(head), bool(CANARY.search(body))
        status = int(head[9:12]) if headed else None
        shows = is_canary or (status in (200, 206) and body)
        answer = Answer(kind, status, request_id and request_id[1].decode(), len(body) if shows else 0, is_canary, first, headed or time.time() - began, thing,
                        None if status in (200, 206, None) else body.decode(errors="replace")[:300])
        with self.lock:
            self.answers.append(answer)
            if is_canary:
                self.shown += 1
                self.last_shown = time.time()
                self.unseen.discard(kind)
            if self.shown >= self.wanted and not self.unseen:
                self.stopping.set()

    def play(self, rng):
        kinds, weights = list(KINDS), [row.weight for row in KINDS.values()]
        try:
            while not self.stopping.is_set():
                unseen = rng.random() < 0.2 and list(self.unseen)
                self.once(rng.choice(unseen) if unseen else rng.choices(kinds, weights)[0], rng.choice(self.things))
        except Exception as error:      # a client that is none any more must not go unnoticed
            self.broken.append(error)
            self.stopping.set()
            raise

    def taken(self):
        """What has come since it was asked last."""
        with self.lock:
            answers, self.answers = self.answers, []
        return answers

    def renew(self):
        self.tokens = {role: self.stack.token(role=role) for role in {row.role for row in KINDS.values()}}

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(ANSWER_S + 10)
        return not any(thread.is_alive() for thread in self.threads)


def read_only(stack, is_on):
    """Every session at once, as after a failover to a standby."""
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET default_transaction_read_only = on" if is_on else "ALTER SYSTEM RESET default_transaction_read_only")
        cursor.execute("SELECT pg_reload_conf()")


class Trouble:
    """What may befall audit-writer, each with its end."""

    def __init__(self, stack, rng):
        self.stack, self.rng, self.hand = stack, rng, killer.Killer(stack)

    def kill(self):
        assert self.hand.kill("audit-writer")

    def stop(self):
        assert self.hand.stop("audit-writer", self.rng.uniform(0.5, 2.5))

    def database(self):
        read_only(self.stack, True)
        try:
            time.sleep(self.rng.uniform(0.5, 2))
        finally:
            read_only(self.stack, False)

    def socket(self):
        self.stack.proxy.set("audit-writer", **{direction: {"hold": True} for direction in self.rng.choice([("up",), ("down",), ("up", "down")])})
        try:
            time.sleep(self.rng.uniform(0.5, 2.5))
        finally:
            self.stack.proxy.clear("audit-writer")


def await_recovery(clients, since):
    """Until somebody was shown something that was asked for after the trouble."""
    deadline = time.time() + RECOVERED_S
    while not clients.stopping.is_set() and clients.last_shown < since + 0.05:
        assert time.time() < deadline, "not well again without an operator"
        time.sleep(0.02)
    return time.time() - since


TIMING = re.compile(r"(\w+);dur=([0-9.]+)")


class Refusals:
    """How long refusals waited for their event, by the clocks of the processes themselves, from the edge's log. What else they took
    is the machine's: other work shares the processors."""

    def __init__(self, stack):
        self.pulse = stack.pulse
        self.path = pathlib.Path(stack.info["processes"]["edge"]["log"])
        self.log, self.rest, self.asked = open(self.path, "rb"), b"", {}
        self.log.seek(0, os.SEEK_END)
        self.count, self.longest_ms, self.late = 0, [], []

    def lines(self):
        """Those that are new and whole. A log that grew too long was renamed, and begins anew."""
        while True:
            is_old = not self.path.exists() or self.path.stat().st_ino != os.fstat(self.log.fileno()).st_ino
            *lines, self.rest = (self.rest + self.log.read()).split(b"\n")
            yield from lines
            if not is_old or not self.path.exists():
                return
            self.log.close()
            self.log, self.rest = open(self.path, "rb"), b""

    def look(self, refusals):
        before, self.asked = self.asked, {a.request_id: a.kind for a in refusals if a.request_id}       # a line may come a moment after its answer
        for line in self.lines():
            said = json.loads(line) if b'"AUDIT_001"' in line else {}
            took = {name: float(ms) for name, ms in TIMING.findall(said.get("timing", ""))}
            kind = before.get(said.get("request_id")) or self.asked.get(said.get("request_id"))
            if kind and "audit" in took:
                self.count += 1
                self.longest_ms = heapq.nlargest(5, [*self.longest_ms, round(took["audit"])])
                ended = datetime.datetime.fromisoformat(said["ts"]).timestamp()
                stalled_ms = 1000 * self.pulse.stalled(ended - said["ms"] / 1000, ended)
                if took["audit"] - stalled_ms > APPEND_MS + WAKE_MS + (FURTHER_MS if kind in SEVERAL else 0):
                    self.late.append((kind, took["audit"], stalled_ms))


class Ledger:
    """Compares what clients were shown with the log, portion by portion, and keeps sums."""

    def __init__(self, stack, database):
        self.stack, self.database, self.statuses, self.refusals = stack, database, collections.Counter(), Refusals(stack)
        self.disclosed, self.blank, self.bytes, self.slow, self.slowest_s = collections.Counter(), 0, 0, 0, 0
        self.violations, self.others, self.tellers = [], collections.Counter(), []

    def events_of(self, request_ids):
        by_request = collections.defaultdict(list)
        with self.database.cursor() as cursor:
            cursor.execute("SELECT request_id::text, action, extract(epoch FROM recorded_at)::float8, document_ids::text[] FROM audit.audit_logs"
                           " WHERE request_id = ANY (%s::uuid[]) AND kind = 'disclosure' AND outcome = 'success'", (request_ids,))
            for request_id, action, recorded, documents in cursor:
                by_request[request_id].append((action, recorded, documents))
        return by_request

    def unrecorded(self, answers):
        """Disclosures whose event is not on the log, or came behind their first byte."""
        events = self.events_of([a.request_id for a in answers if a.request_id])
        for a in answers:
            row = KINDS[a.kind]
            named = [e for e in events[a.request_id] if e[0] == row.action and (not row.named or a.thing[row.named] in e[2])]
            if not named:
                yield f"{a.bytes} bytes of a {a.kind} in request {a.request_id}, and no event"
            elif min(e[1] for e in named) > a.first + SLACK_S:
                yield f"a {a.kind} in request {a.request_id} was shown before its event"

    def take(self, answers):
        self.statuses.update(str(a.status) for a in answers)
        shown, refusals = [a for a in answers if a.bytes], [a for a in answers if a.status not in (200, 206, None)]
        self.disclosed.update(a.kind for a in shown if a.is_canary)
        self.blank += sum(not a.is_canary for a in shown)
        self.bytes += sum(a.bytes for a in shown)
        self.violations += self.unrecorded(shown)
        self.tellers += [a[:4] for a in refusals if a.bytes]
        self.others.update((a.kind, a.status, a.problem) for a in refusals if a.status != 503)
        self.slow += sum(a.headed > REFUSED_S for a in refusals)           # seen by clients that share the processors: a figure
        self.slowest_s = max([self.slowest_s, *(a.headed for a in refusals)])
        self.refusals.look(refusals)


def things_of(stack, rng):
    """Documents of a patient each, an answer about each with its conversation, and a package of all: things that can be shown again and again."""
    things = []
    for n in range(DOCUMENTS):
        canary, patient = (f"canary-{rng.randrange(1 << 48):012x}" for _ in range(2))
        form = {"mrn": (None, patient), "file": (f"{canary}.txt", f"The canary sings {canary} at dawn. Note {n}.".encode(), "text/plain")}
        answer = stack.call("POST", "/api/v1/documents", files=form)
        assert answer.status_code == 202, answer.text
        things.append({"document": answer.json()["document_id"]})
    for thing in things:
        document = stack.wait_ready(thing["document"])
        assert document["status"] == "ready", document
        answer = stack.call("POST", "/api/v1/query", json={**QUESTION, "filter": {"document_ids": [thing["document"]]}})
        assert answer.status_code == 200 and CANARY.search(answer.content), answer.text
        thing.update(subject=document["subject_id"], answer=answer.json()["answer_id"], conversation=answer.json()["conversation_id"])
    if "package" in KINDS:
        package = package_of(stack, [thing["document"] for thing in things])
        for thing in things:
            thing["package"] = package
    return things


def package_of(stack, documents):
    answer = stack.call("POST", "/api/v1/evidence", role="admin", json={"reason": "litigation", "reference": "case-7", "document_ids": documents})
    assert answer.status_code == 202, answer.text
    evidence = answer.json()["evidence_id"]

    def is_ready():
        return stack.call("GET", f"/api/v1/evidence/{evidence}", role="admin").json()["evidence"]["status"] == "ready"
    stack.wait_for("a package", is_ready, 60)
    return evidence


COUNTED_HOME = killer.e2e.ROOT / ".cordon" / "counted"


@pytest.fixture
def counted(request):
    """The stack of those who break other things; for many, one of their own, where nothing but the way to audit-writer leads through the proxy."""
    if not IS_MANY:
        yield request.getfixturevalue("detoured")
        return
    with detoured_stack(["audit-writer"], COUNTED_HOME) as stack:
        yield stack


@pytest.mark.timeout(600 + DISCLOSURES // 40)
def test_no_byte_is_shown_that_is_not_on_the_record(counted, seed, capsys, tmp_path):
    with counted.database() as database:
        count_disclosures(counted, database, seed, capsys)
    if IS_MANY:
        began = time.time()
        assert_whole(counted, COUNTED_HOME, tmp_path)
        with capsys.disabled():
            print(f"the log is whole, after {time.time() - began:.0f} s", flush=True)


def count_disclosures(stack, database, seed, capsys):
    rng = random.Random(seed)
    clients, trouble, ledger = Counting(stack, things_of(stack, rng), seed, DISCLOSURES), Trouble(stack, rng), Ledger(stack, database)
    kinds, recoveries, began = ["kill", "stop", "database", "socket"], collections.defaultdict(list), time.time()
    told, turn = began, 0
    clients.start()
    try:
        while not clients.stopping.is_set() or turn < len(kinds):
            if clients.stopping.is_set() and not clients.broken:       # each kind at least once, however fast the clients were
                clients.wanted += 50
                assert clients.end(), "a client hangs"
                clients.start()
            clients.renew()
            kind = kinds[turn] if turn < len(kinds) else rng.choice(kinds)
            turn += 1
            getattr(trouble, kind)()
            recoveries[kind].append(await_recovery(clients, time.time()))
            ledger.take(clients.taken())
            assert not ledger.violations, ledger.violations[:10]
            assert not clients.broken, clients.broken[:1]
            if time.time() - told >= PROGRESS_S:
                told = time.time()
                with capsys.disabled():
                    print(f"{clients.shown:,} of {DISCLOSURES:,} disclosures, {clients.shown / (told - began):.0f}/s, 0 violations, {turn} troubles, {ledger.statuses['503']} refusals, "
                          f"{max(ledger.refusals.longest_ms, default=0)} ms the longest wait for the record", flush=True)
            clients.stopping.wait(rng.uniform(*PAUSE_S))
    finally:
        ended = clients.end()
    assert ended, "a client hangs"
    stack.wait_for("ready", stack.is_ready, 30)

    ledger.take(clients.taken())
    ledger.refusals.look([])
    seconds, refusals = time.time() - began, ledger.refusals
    report = {"seed": seed, "seconds": round(seconds), "clients": CLIENTS, "disclosures": clients.shown, "a_second": round(clients.shown / seconds, 1), "kinds": ledger.disclosed,
              "blank": ledger.blank, "bytes": ledger.bytes, "answers": ledger.statuses, "troubles": {kind: len(times) for kind, times in recoveries.items()},
              "recovery_s": {kind: [round(sorted(times)[len(times) // 2], 2), round(max(times), 2)] for kind, times in recoveries.items()},
              "waited_for_the_record_ms": refusals.longest_ms, "late": len(refusals.late), "slow_refusals": ledger.slow, "slowest_refusal_s": round(ledger.slowest_s, 2)}
    with capsys.disabled() if IS_MANY else contextlib.nullcontext():
        print(json.dumps(report, indent=1), flush=True)
    for kind, times in recoveries.items():
        note_recovery(f"disclosures, audit-writer: {kind}", max(times))
    assert not ledger.violations, ledger.violations[:10]
    assert clients.shown >= DISCLOSURES
    assert set(ledger.disclosed) == set(KINDS), ledger.disclosed
    assert not ledger.tellers, "a refusal that shows something"
    assert not ledger.others, ledger.others.most_common(5)
    assert not ledger.statuses["None"], "an answer that did not come"
    assert ledger.statuses["503"] > 0, "the troubles were none"
    assert refusals.count, "no refusal says how long it waited for the record"
    assert len(refusals.late) <= LATE_SHARE * refusals.count and refusals.longest_ms[0] <= MOST_MS, (refusals.count, refusals.longest_ms, refusals.late[:5])


KILLS = 60 if IS_LONG else 6


def test_an_export_made_after_storms_is_whole_where_there_is_nothing_else(detoured, tmp_path):
    """Copied with the program into an empty folder, entered by chroot where that is allowed: no database, no network, no key but the one from elsewhere."""
    hand = killer.Killer(detoured)
    for _ in range(KILLS):
        detoured.upload(b"A note of the storm.")
        hand.kill("audit-writer", awaits=False)
        time.sleep(0.3)
    home = killer.e2e.pathlib.Path(os.environ.get("CORDON_DETOURS_HOME", str(killer.e2e.ROOT / ".cordon" / "detours")))
    assert_whole(detoured, home, tmp_path)


class Appending:
    """Threads that put events on the log as fast as they may, and remember what was acknowledged."""

    def __init__(self, stack):
        self.stack, self.shown, self.stopping = stack, [], threading.Event()
        self.threads = [threading.Thread(target=self.play) for _ in range(APPENDERS)]

    def play(self):
        token = self.stack.token()
        with requests.Session() as session:
            while not self.stopping.is_set():
                try:
                    answer = session.get(f"{self.stack.url}/api/v1/documents?limit=1", headers={"Authorization": f"Bearer {token}"}, timeout=30)
                except requests.RequestException:
                    continue
                if answer.status_code == 200:
                    self.shown.append(answer.headers["X-Request-ID"])

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)


def test_several_audit_writers_killed_in_the_middle_of_batches_leave_one_log_whole(stack, seed, tmp_path):
    """Two of them append to the same trees by turns, each from where it remembers them, and die at any moment."""
    rng, hand = random.Random(seed), killer.Killer(stack)
    writers = killer.instances(stack, "audit-writer")
    assert len(writers) > 1
    with Appending(stack) as clients:
        for _ in range(2 * KILLS):
            before = len(clients.shown)
            hand.kill(rng.choice(writers), awaits=False)
            killer.e2e.wait_for("appended again", lambda: len(clients.shown) > before + 3, 30, 0.02)
            time.sleep(rng.uniform(0, 0.2))
    events = assert_whole(stack, killer.e2e.STATE, tmp_path)
    told = collections.Counter(e.get("request_id") for e in events if e["action"] == "document.list")
    assert clients.shown and all(told[request] == 1 for request in clients.shown), "each that was shown is on the log once"


def assert_whole(stack, home, folder):
    """The log at rest is one without gap or double, and cordon-verify says so where there is nothing else. Its exported events, one after
    the other: a million of them are a gigabyte."""
    killer.e2e.wait_for("ready", stack.is_ready, 60)
    killer.e2e.wait_for("an empty outbox", lambda: size_of(stack, "SELECT count(*) = 0 FROM audit.audit_outbox"), 60)
    key = subprocess.run(["cat", home / "secrets/.made/checkpoint.verifier"], capture_output=True, text=True, check=True).stdout.strip()

    def whole():
        head = stack.call("GET", "/api/v1/audit/checkpoint", role="auditor").json()
        count = size_of(stack, "SELECT count(*) FROM audit.audit_logs l JOIN auth.tenants t ON t.id = l.tenant_id WHERE t.slug = 'demo'")
        return head.get("size", 0) >= count > 0 and head["size"]
    signed = killer.e2e.wait_for("a checkpoint over all of it", whole, 60)
    log, cut = folder / "log.jsonl", folder / "cut.jsonl"
    with stack.call("GET", "/api/v1/audit/export", role="auditor", stream=True) as export, open(log, "wb") as file:
        assert export.status_code == 200, export.text
        for portion in export.iter_content(1 << 20):
            file.write(portion)
    assert_as_stored(stack, log, cut, signed)

    verify = killer.e2e.ROOT / ".cordon/build/release/services/verify/cordon-verify"
    said = alone(verify, folder, "--key", key, "/log.jsonl")
    assert said.returncode == 0, said.stdout + said.stderr
    assert alone(verify, folder, "--key", key, "/cut.jsonl").returncode == 1
    return events_of(log)


def events_of(log):
    with open(log, "rb") as lines:
        for line in lines:
            if not line.startswith(b'{"cordon"'):
                yield json.loads(line)


def assert_as_stored(stack, log, cut, signed):
    """The export is the log, without a gap and without a double; cut: where the same without its middle is put."""
    with stack.database() as db, open(log, "rb") as lines, open(cut, "wb") as without:
        db.autocommit = False       # a cursor of the server's lives in a transaction
        with db.cursor("stored") as stored:
            stored.execute("SELECT l.event FROM audit.audit_logs l JOIN auth.tenants t ON t.id = l.tenant_id WHERE t.slug = 'demo' ORDER BY l.seq")
            rows, count = iter(stored), 0
            for line in lines:
                if not line.startswith(b'{"cordon"'):
                    row = next(rows, None)
                    assert row and bytes(row[0]) == line.rstrip(b"\n") and json.loads(line)["seq"] == count, f"event {count} is not the {count}th that is stored"
                    count += 1
                    if count == signed // 2:
                        continue
                without.write(line)
    assert count >= signed


def size_of(stack, query):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def alone(program, folder, *args):
    """The program with its libraries in a folder that holds nothing else but what was put there."""
    libraries = re.findall(r"(/\S+)", subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout)
    for source in [str(program), *libraries]:
        target = folder / (source.lstrip("/") if source != str(program) else "cordon-verify")
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-L", source, target], check=True)
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    return subprocess.run([*root, "unshare", "--net", "--mount", "--propagation", "unchanged", "chroot", str(folder), "/cordon-verify", *args], capture_output=True, text=True)
