"""Fail closed under load: while audit-writer is killed, stopped, given a database that is read-only, or cut off, clients
count the bytes of documents that reach them. Each disclosure is on the record before its first byte; every other answer is
a 503 that comes soon and shows nothing; and all is well again when the trouble ends, without an operator.

CORDON_DISCLOSURES says how many are to come (300; with --long 1,000,000), CORDON_DISCLOSURES_CLIENTS how many ask at once. What has
come is compared with the log after each trouble and then forgotten, so that the length costs no memory; a line a minute says how far it is."""
import collections
import http.client
import json
import os
import pathlib
import random
import re
import subprocess
import threading
import time
import urllib.parse

import requests

import killer
from detours import IS_LONG, note_recovery

DISCLOSURES = int(os.environ.get("CORDON_DISCLOSURES", 1000000 if IS_LONG else 300))
CLIENTS = int(os.environ.get("CORDON_DISCLOSURES_CLIENTS", 16 if DISCLOSURES >= 10000 else 6))
DOCUMENTS, APPENDERS = 4, 6
PAUSE_S = (0.5, 4) if DISCLOSURES >= 10000 else (0.2, 1.5)      # between two troubles
PROGRESS_S = 60
REFUSED_S = 1.0
APPEND_MS, FURTHER_MS = 800, 2 * 500     # common/audit/client.c: for one event; for those that a question puts on the record later
WAKE_MS = 150                            # how late a thread may wake on a busy machine
RECOVERED_S = 20
SLACK_S = 0.010         # one clock, read twice
CANARY = re.compile(rb"canary-[0-9a-f]{12}")
QUESTION = {"question": "What does the canary sing?", "top_k": 2}
# What is asked for: how often, of what document or answer, under which action it must be on the record.
KINDS = {
    "content":      (16, "GET", "/api/v1/documents/{document}/content", "document.content.read"),
    "document":     (24, "GET", "/api/v1/documents/{document}", "document.read"),
    "list":         (8, "GET", "/api/v1/documents?limit=5", "document.list"),
    "search":       (2, "POST", "/api/v1/search", "search.disclose"),
    "question":     (1, "POST", "/api/v1/query", "answer.disclose"),
    "answer":       (10, "GET", "/api/v1/query/{answer}", "answer.read"),
    "conversation": (6, "GET", "/api/v1/conversations/{conversation}", "conversation.read"),
    "receipt":      (3, "GET", "/api/v1/query/{answer}/receipt?open=true", "answer.receipt.read"),
}
MIX = [kind for kind, row in KINDS.items() for _ in range(row[0])]
NAMED = ("content", "document")         # of these the event names the very document


class Counting:
    """Threads that ask until so many disclosures have come; each answer is written down as its bytes arrived."""

    def __init__(self, stack, things, seed, wanted):
        self.stack, self.things, self.wanted, self.seed = stack, things, wanted, seed
        self.address = urllib.parse.urlsplit(stack.url)
        self.token, self.lock, self.answers, self.shown = stack.token(), threading.Lock(), [], 0
        self.last_shown = 0.0
        self.stopping = threading.Event()
        self.threads = []

    def start(self):
        self.seed += CLIENTS
        self.threads = [threading.Thread(target=self.play, args=(random.Random(self.seed + n),)) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def once(self, what, thing):
        """One connection, as the edge keeps none; without more of a library than that, which would be the slowest part."""
        _, method, path, _ = KINDS[what]
        began, told, status, first, request_id = time.time(), b"", None, None, None
        headed = None
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=30)
        try:
            body = json.dumps(QUESTION) if method == "POST" else None
            connection.request(method, path.format(**thing), body, {"Authorization": f"Bearer {self.token}", **({"Content-Type": "application/json"} if body else {})})
            answer = connection.getresponse()
            status, request_id = answer.status, answer.headers.get("X-Request-ID")
            headed = time.time() - began
            while portion := answer.read1(65536):
                first = first or time.time()
                told += portion
        except (OSError, http.client.HTTPException):
            headed = headed or time.time() - began
        finally:
            connection.close()
        shown = bool(CANARY.search(told))
        with self.lock:
            self.answers.append((what, status, request_id, len(told) if shown else 0, first, headed, thing["document"],
                                 None if status in (200, None) else told.decode(errors="replace")[:300]))
            if shown:
                self.shown += 1
                self.last_shown = time.time()
            if self.shown >= self.wanted:
                self.stopping.set()

    def play(self, rng):
        while not self.stopping.is_set():
            self.once(rng.choice(MIX), rng.choice(self.things))

    def taken(self):
        """What has come since it was asked last."""
        with self.lock:
            answers, self.answers = self.answers, []
        return answers

    def renew(self):
        self.token = self.stack.token()


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
    """(what, ms): how long each refusal waited for its event, by the clocks of the processes themselves, from the edge's log. What
    else it took is the machine's: other work shares the processors."""

    def __init__(self, stack):
        self.file, self.offset, self.asked, self.waits = pathlib.Path(stack.info["processes"]["edge"]["log"]), 0, {}, []

    def look(self, refusals):
        before, self.asked = self.asked, {a[2]: a[0] for a in refusals if a[2]}       # a line may come a moment after its answer
        if self.file.stat().st_size < self.offset:          # the log was begun anew
            self.offset = 0
        with open(self.file, "rb") as log:
            log.seek(self.offset)
            lines = log.read()
        self.offset += lines.rfind(b"\n") + 1
        for line in lines[:lines.rfind(b"\n") + 1].splitlines():
            said = json.loads(line) if b'"AUDIT_001"' in line else {}
            took, id = {name: float(ms) for name, ms in TIMING.findall(said.get("timing", ""))}, said.get("request_id")
            if "audit" in took and (id in before or id in self.asked):
                self.waits.append((before.get(id) or self.asked[id], took["audit"]))


class Ledger:
    """Compares what clients were shown with the log, portion by portion, and keeps sums."""

    def __init__(self, stack):
        self.stack, self.statuses, self.refusals = stack, collections.Counter(), Refusals(stack)
        self.disclosed, self.bytes, self.slow, self.slowest_s = collections.Counter(), 0, 0, 0
        self.violations, self.others, self.tellers = [], collections.Counter(), []

    def events_of(self, request_ids):
        by_request = collections.defaultdict(list)
        with self.stack.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT request_id::text, action, extract(epoch FROM recorded_at)::float8, document_ids::text[] FROM audit.audit_logs"
                           " WHERE request_id = ANY (%s::uuid[]) AND kind = 'disclosure' AND outcome = 'success'", (request_ids,))
            for request_id, action, recorded, documents in cursor:
                by_request[request_id].append((action, recorded, documents))
        return by_request

    def unrecorded(self, answers):
        """Disclosures whose event is not on the log, or came behind their first byte."""
        events = self.events_of([a[2] for a in answers])
        for what, _status, request_id, size, first, _headed, document_id, _told in answers:
            named = [e for e in events[request_id] if e[0] == KINDS[what][3] and (what not in NAMED or document_id in e[2])]
            if not named:
                yield f"{size} bytes of a {what} in request {request_id}, and no event"
            elif min(e[1] for e in named) > first + SLACK_S:
                yield f"a {what} in request {request_id} was shown before its event"

    def take(self, answers):
        self.statuses.update(str(a[1]) for a in answers)
        shown, refusals = [a for a in answers if a[3]], [a for a in answers if a[1] is not None and a[1] != 200]
        self.disclosed.update(a[0] for a in shown)
        self.bytes += sum(a[3] for a in shown)
        self.violations += self.unrecorded(shown)
        self.tellers += [a[:3] for a in refusals if a[3]]
        self.others.update((a[0], a[1], a[7]) for a in refusals if a[1] != 503)
        self.slow += sum(a[5] > REFUSED_S for a in refusals)           # seen by clients that share the processors: a figure
        self.slowest_s = max([self.slowest_s, *(a[5] for a in refusals)])
        self.refusals.look(refusals)


def answered(stack, documents):
    """An answer about each document, with its conversation: things that can be shown again."""
    for document in documents:
        answer = stack.call("POST", "/api/v1/query", json={**QUESTION, "filter": {"document_ids": [document]}})
        assert answer.status_code == 200 and CANARY.search(answer.content), answer.text
        yield {"document": document, "answer": answer.json()["answer_id"], "conversation": answer.json()["conversation_id"]}


def test_no_byte_is_shown_that_is_not_on_the_record(detoured, seed, capsys):
    rng = random.Random(seed)
    documents = [detoured.ingest(f"The canary sings canary-{rng.randrange(1 << 48):012x} at dawn. Note {n}.".encode(), name=f"canary-{rng.randrange(1 << 48):012x}.txt")["id"]
                 for n in range(DOCUMENTS)]
    clients, trouble, ledger = Counting(detoured, list(answered(detoured, documents)), seed, DISCLOSURES), Trouble(detoured, rng), Ledger(detoured)
    kinds, recoveries, began = ["kill", "stop", "database", "socket"], collections.defaultdict(list), time.time()
    told = began
    clients.start()
    try:
        turn = 0
        while not clients.stopping.is_set() or turn < len(kinds):
            if clients.stopping.is_set():       # each kind at least once, however fast the clients were
                clients.wanted += 50
                clients.stopping.clear()
                clients.start()
            clients.renew()
            kind = kinds[turn] if turn < len(kinds) else rng.choice(kinds)
            turn += 1
            getattr(trouble, kind)()
            recoveries[kind].append(await_recovery(clients, time.time()))
            ledger.take(clients.taken())
            assert not ledger.violations, ledger.violations[:10]
            if time.time() - told >= PROGRESS_S:
                told = time.time()
                with capsys.disabled():
                    print(f"{clients.shown:,} of {DISCLOSURES:,} disclosures, {clients.shown / (told - began):.0f}/s, {turn} troubles, {ledger.statuses['503']} refusals, "
                          f"{max(ms for _, ms in ledger.refusals.waits or [('', 0)]):.0f} ms the longest wait for the record", flush=True)
            clients.stopping.wait(rng.uniform(*PAUSE_S))
    finally:
        clients.stopping.set()
        for thread in clients.threads:
            thread.join(60)
    detoured.wait_for("ready", detoured.is_ready, 30)

    ledger.take(clients.taken())
    ledger.refusals.look([])
    seconds, waits = time.time() - began, ledger.refusals.waits
    report = {"seed": seed, "seconds": round(seconds), "clients": CLIENTS, "disclosures": clients.shown, "a_second": round(clients.shown / seconds, 1), "kinds": ledger.disclosed,
              "bytes": ledger.bytes, "answers": ledger.statuses, "troubles": {kind: len(times) for kind, times in recoveries.items()},
              "recovery_s": {kind: [round(sorted(times)[len(times) // 2], 2), round(max(times), 2)] for kind, times in recoveries.items()},
              "waited_for_the_record_ms": sorted(round(ms) for _, ms in waits)[-5:], "slow_refusals": ledger.slow, "slowest_refusal_s": round(ledger.slowest_s, 2)}
    print(json.dumps(report, indent=1))
    for kind, times in recoveries.items():
        note_recovery(f"disclosures, audit-writer: {kind}", max(times))
    assert not ledger.violations, ledger.violations[:10]
    assert clients.shown >= DISCLOSURES
    assert DISCLOSURES < 300 or set(ledger.disclosed) == set(KINDS), ledger.disclosed
    assert not ledger.tellers, "a refusal that shows something"
    assert not ledger.others, ledger.others.most_common(5)
    assert ledger.statuses["503"] > 0, "the troubles were none"
    assert waits, "no refusal says how long it waited for the record"
    late = [(what, ms) for what, ms in waits if ms > APPEND_MS + WAKE_MS + (FURTHER_MS if what in ("search", "question") else 0)]
    assert not late, late[:5]


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
    """The log at rest is one without gap or double, and cordon-verify says so where there is nothing else. Its exported events."""
    killer.e2e.wait_for("ready", stack.is_ready, 60)
    killer.e2e.wait_for("an empty outbox", lambda: size_of(stack, "SELECT count(*) = 0 FROM audit.audit_outbox"), 60)
    key = subprocess.run(["cat", home / "secrets/.made/checkpoint.verifier"], capture_output=True, text=True, check=True).stdout.strip()

    def whole():
        head = stack.call("GET", "/api/v1/audit/checkpoint", role="auditor").json()
        count = size_of(stack, "SELECT count(*) FROM audit.audit_logs l JOIN auth.tenants t ON t.id = l.tenant_id WHERE t.slug = 'demo'")
        return head.get("size", 0) >= count > 0 and head["size"]
    signed = killer.e2e.wait_for("a checkpoint over all of it", whole, 60)
    export = stack.call("GET", "/api/v1/audit/export", role="auditor").content
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT l.event FROM audit.audit_logs l JOIN auth.tenants t ON t.id = l.tenant_id WHERE t.slug = 'demo' ORDER BY l.seq")
        stored = [bytes(row[0]) for row in cursor]
    exported = [line for line in export.splitlines() if not line.startswith(b'{"cordon"')]
    assert exported == stored[:len(exported)] and len(exported) >= signed, "the export is the log, without a gap and without a double"
    assert [json.loads(line)["seq"] for line in exported] == list(range(len(exported)))

    (folder / "log.jsonl").write_bytes(export)
    verify = killer.e2e.ROOT / ".cordon/build/release/services/verify/cordon-verify"
    said = alone(verify, folder, "--key", key, "/log.jsonl")
    assert said.returncode == 0, said.stdout + said.stderr
    cut = export.splitlines(keepends=True)
    del cut[len(cut) // 2]
    (folder / "log.jsonl").write_bytes(b"".join(cut))
    assert alone(verify, folder, "--key", key, "/log.jsonl").returncode == 1
    return [json.loads(line) for line in exported]


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
