"""Packages of evidence, from the order to an outsider's check: what is in them, who may have them, what becomes of them."""
import concurrent.futures
import io
import json
import os
import pathlib
import random
import re
import secrets
import subprocess
import tarfile
import time

import pytest

from conftest import ROOT, STATE, wait_for

VERIFY = ROOT / ".cordon/build/release/services/verify/cordon-verify"
# Documents and events of the big one: more than one page holds; in the long form as many documents as one takes.
BIG_DOCUMENTS, BIG_EVENTS = (10_000, 20_000) if os.environ.get("CORDON_TEST_LONG") else (16, 600)
GROWS_MIB, VERIFY_MIB = 64, 32      # of ingest-worker while it packs: parts of the upload, pages, lists; the whole address space of cordon-verify


def verify(key, archive):
    return subprocess.run([VERIFY, "evidence", "--key", key, "-"], input=archive, capture_output=True)


@pytest.fixture(scope="module")
def key():
    return (STATE / "secrets/.made/checkpoint.verifier").read_text().strip()


def order(stack, role="admin", tenant="demo", **body):
    return stack.call("POST", "/api/v1/evidence", role=role, tenant=tenant, json={"reason": "litigation", "reference": "case-7", **body})


def get(stack, evidence_id, **who):
    return stack.call("GET", f"/api/v1/evidence/{evidence_id}", **{"role": "admin", **who})


def ready(stack, evidence_id):
    def settled():
        e = get(stack, evidence_id).json()["evidence"]
        return e["status"] in ("ready", "failed") and e
    e = wait_for("a package", settled, 150, 0.3)
    assert e["status"] == "ready", e
    return e


def content(stack, evidence_id, **who):
    return stack.call("GET", f"/api/v1/evidence/{evidence_id}/content", **{"role": "admin", **who})


@pytest.fixture(scope="module")
def case(stack):
    """Two documents, a question about them, and the package of both."""
    word = f"qvx{secrets.token_hex(5)}"
    texts = [f"The patient {word} takes 5 mg of {word} daily.".encode(), b"x" * 700_000 + word.encode()]
    ids = [stack.ingest(t)["id"] for t in texts]
    asked = stack.call("POST", "/api/v1/query", role="clinician", json={"question": f"What does {word} take?"})
    assert asked.status_code == 200, asked.text
    size = lambda: stack.call("GET", "/api/v1/audit/checkpoint", role="auditor")
    before = stack.call("GET", "/api/v1/audit/events?limit=1", role="auditor").json()["events"][0]["seq"]
    wait_for("a checkpoint", lambda: size().status_code == 200 and size().json()["size"] > before, 60, 0.5)
    answer = order(stack, document_ids=ids, idempotency_key=word)
    assert answer.status_code == 202, answer.text
    again = order(stack, document_ids=ids, idempotency_key=word)
    assert again.status_code == 202 and again.json()["evidence_id"] == answer.json()["evidence_id"]
    assert order(stack, document_ids=ids[:1], idempotency_key=word).status_code == 409
    evidence = ready(stack, answer.json()["evidence_id"])
    return {"word": word, "ids": ids, "texts": texts, "id": evidence["id"], "answer_id": asked.json()["answer_id"], "evidence": evidence}


def test_a_package_holds_the_case_and_an_outsider_can_check_it(stack, case, key):
    archive = content(stack, case["id"])
    assert archive.status_code == 200, archive.text
    assert len(archive.content) == case["evidence"]["bytes"]
    done = verify(key, archive.content)
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    for document, text in zip(case["ids"], case["texts"]):
        assert members[f"documents/{document}"] == text
    assert list(members)[-1] == "manifest.json"
    events = [json.loads(line) for name, data in members.items() if name.startswith("events/") for line in data.splitlines()]
    actions = {e["action"] for e in events if "action" in e}
    assert {"document.create", "answer.disclose", "answer.receipt"} <= actions, actions
    receipts = [json.loads(line) for name, data in members.items() if name.startswith("receipts/") for line in data.splitlines()]
    assert case["answer_id"] in {r["answer_id"] for r in receipts}


def test_a_changed_byte_is_found_and_its_member_named(stack, case, key):
    archive = bytearray(content(stack, case["id"]).content)
    for at in [512, 600_000] + [random.randrange(len(archive)) for _ in range(12)]:
        archive[at] ^= 0x10
        done = verify(key, bytes(archive))
        assert done.returncode == 1 and done.stdout.startswith(b"NOT VERIFIED"), (at, done.stdout, done.stderr)
        archive[at] ^= 0x10
    archive[600] ^= 1
    assert b"documents/" in verify(key, bytes(archive)).stdout


def test_whoever_had_it_is_on_record(stack, case):
    def custody():
        e = get(stack, case["id"]).json()["evidence"]
        actions = [c["action"] for c in e.get("custody", [])]
        return "evidence.download" in actions and e
    evidence = wait_for("the download in the custody", custody, 30)
    actions = [c["action"] for c in evidence["custody"]]
    assert actions.index("evidence.create") < actions.index("evidence.seal") < actions.index("evidence.download"), actions
    assert all(c["occurred_at"] for c in evidence["custody"])
    listed = stack.call("GET", "/api/v1/evidence", role="admin").json()["evidence"]
    assert case["id"] in [e["id"] for e in listed]


def test_it_is_for_those_with_the_scope_and_of_their_own_tenant(stack, case):
    for role in ("clinician", "auditor"):
        assert order(stack, role=role, document_ids=case["ids"]).status_code == 403
        assert get(stack, case["id"], role=role).status_code == 403
        assert content(stack, case["id"], role=role).status_code == 403
    assert stack.call("GET", f"/api/v1/documents/{case['id']}", role="clinician").status_code == 404, "nor as a document"
    assert stack.call("GET", f"/api/v1/documents/{case['id']}/content", role="clinician").status_code == 404
    assert get(stack, case["id"], tenant="lakeside").status_code == 404
    assert content(stack, case["id"], tenant="lakeside").status_code == 404
    assert order(stack, tenant="lakeside", document_ids=case["ids"]).status_code == 404
    assert order(stack, document_ids=[case["id"]]).status_code == 404, "a package is no source"
    assert content(stack, case["ids"][0]).status_code == 404, "a document is no package"
    assert order(stack).status_code in (400, 422)


def test_a_span_of_the_log_is_packed_with_every_event_of_it(stack, key):
    now = time.time_ns() // 1000
    answer = order(stack, **{"from_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now / 1e6 - 600)),
                             "to_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now / 1e6 + 600))})
    assert answer.status_code == 202, answer.text
    evidence = ready(stack, answer.json()["evidence_id"])
    archive = content(stack, evidence["id"]).content
    done = verify(key, archive)
    assert done.returncode == 0, done.stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        events = [json.loads(line) for m in tar.getmembers() if m.name.startswith("events/") for line in tar.extractfile(m).read().splitlines()]
    seqs = [e["seq"] for e in events if "action" in e]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) and len(seqs) > 20


def test_it_ends_with_its_sources_and_when_it_is_asked_to(stack, case):
    second = order(stack, document_ids=case["ids"][:1]).json()["evidence_id"]
    ready(stack, second)
    gone = stack.call("DELETE", f"/api/v1/evidence/{second}", role="admin")
    assert gone.status_code == 202, gone.text
    assert content(stack, second).status_code == 404
    wait_for("its erasure", lambda: stack.call("GET", f"/api/v1/erasures/{gone.json()['erasure_id']}", role="admin").json()["erasure"]["state"] == "done", 60)
    assert content(stack, case["id"]).status_code == 200
    assert stack.call("DELETE", f"/api/v1/documents/{case['ids'][0]}", role="clinician").status_code in (204, 403)
    stack.call("DELETE", f"/api/v1/documents/{case['ids'][0]}", role="admin")
    assert content(stack, case["id"]).status_code == 404
    assert get(stack, case["id"]).status_code == 404


# ---- a big one ----

class Memory:
    """Of a process, from here on: by the kernel's own mark."""

    def __init__(self, pid):
        self.pid = pid
        subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), "tee", f"/proc/{pid}/clear_refs"], input=b"5", stdout=subprocess.DEVNULL, check=True)
        self.before = self.mib("VmRSS")

    def mib(self, field):
        return int(re.search(rf"{field}:\s+(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text())[1]) / 1024

    def grew(self):
        return self.mib("VmHWM") - self.before


def timed(work):
    began = time.monotonic()
    done = work()
    return round(time.monotonic() - began, 1), done


@pytest.fixture(scope="module")
def clinic(stack):
    """A tenant whose log and patient are this package's alone."""
    slug = f"big-{secrets.token_hex(4)}"
    stack.cordon("tenants", "create", slug, "Big Clinic")
    return slug


def test_a_big_package_is_made_and_verified_in_bounded_memory(stack, clinic, key, tmp_path):
    """Of a patient with very many documents; they fail, as they are no PDFs, and are evidence all the same."""
    headers = {"Content-Type": "application/pdf", "Cordon-Mrn": "0042-17"}

    def upload(n):
        answer = stack.call("POST", "/api/v1/documents", tenant=clinic, data=b"no PDF %d" % n + random.Random(n).randbytes(200_000 if n % 50 == 0 else 2000), headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["document_id"]
    stack.token(tenant=clinic)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(upload, range(BIG_DOCUMENTS)))
    subject = stack.call("POST", "/api/v1/subjects/lookup", tenant=clinic, json={"mrn": "0042-17"}).json()["subject_id"]
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) "
                       "SELECT authz.uuid_v7(), t.id, now(), 'document.update', ARRAY[(%s::uuid[])[1 + n %% %s]], '{}' FROM auth.tenants t, generate_series(1, %s) n WHERE t.slug = %s",
                       (ids, len(ids), BIG_EVENTS, clinic))

        def is_drained():
            cursor.execute("SELECT NOT EXISTS (SELECT FROM audit.audit_outbox)")
            return cursor.fetchone()[0]
        drained_s, _ = timed(lambda: wait_for("the events are on the log", is_drained, 600, 0.2))
    memory = Memory(stack.pid("ingest-worker"))
    answer = order(stack, tenant=clinic, subject_id=subject)
    assert answer.status_code == 202 and answer.json()["documents"] == BIG_DOCUMENTS, answer.text

    def is_ready():
        evidence = get(stack, answer.json()["evidence_id"], tenant=clinic).json()["evidence"]
        assert evidence["status"] != "failed", evidence
        return evidence["status"] == "ready" and evidence
    packed_s, evidence = timed(lambda: wait_for("the big package", is_ready, 3600, 0.3))
    grew = memory.grew()
    archive = tmp_path / "big.tar"
    with content(stack, evidence["id"], tenant=clinic, stream=True) as download, open(archive, "wb") as file:
        for part in download.iter_content(1 << 20):
            file.write(part)
    limited = ["sh", "-c", f'ulimit -v {VERIFY_MIB << 10}; exec "$@"', "sh", VERIFY, "evidence", "--key", key, archive]
    verified_s, done = timed(lambda: subprocess.run(limited, capture_output=True, text=True))
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    documents, events = map(int, re.search(r"of (\d+) documents, (\d+) events", said).groups())
    print(json.dumps({"documents": documents, "events": events, "mib": round(archive.stat().st_size / 2**20, 1), "drained_s": drained_s, "packed_s": packed_s, "ingest_worker_grew_mib": round(grew, 1),
                      "verified_s": verified_s}))
    assert documents == BIG_DOCUMENTS and events >= BIG_EVENTS + BIG_DOCUMENTS
    assert grew < GROWS_MIB
