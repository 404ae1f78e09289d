"""kill -9 is normal operation: whatever dies during ingestion, every accepted document gets ready, once."""
import json
import os
import signal
import uuid

import pytest

from conftest import PROCESSES, ROOT, wait_for

MANIFEST = [row for row in json.loads((ROOT / "dev" / "samples" / "manifest.json").read_text()) if row["tenant"] == "demo"]


@pytest.mark.parametrize("process", PROCESSES)
def test_killing_a_process_during_ingestion_loses_and_doubles_nothing(stack, process):
    accepted = []
    victim = stack.pid(process)
    for n, row in enumerate(MANIFEST):
        body = (ROOT / "dev" / "samples" / "demo" / row["file"]).read_bytes()
        if row["content_type"].startswith("text/plain"):     # or it has its vectors from the last time
            body = f"{uuid.uuid4()}\n".encode() + body
        if n == 3:
            os.kill(victim, signal.SIGKILL)
        wait_for(f"upload {n} accepted", lambda: _try_upload(stack, body, row, accepted), 60)
    ready = [stack.wait_ready(document_id, 120) for document_id in accepted]
    assert [d["status"] for d in ready] == ["ready"] * len(MANIFEST), ready
    assert wait_for(f"{process} restarted", lambda: stack.cordon("pid", process, check=False)) != str(victim)
    with stack.database() as db, db.cursor() as cursor:
        for document in ready:
            cursor.execute("""SELECT count(*), count(DISTINCT ordinal), max(ordinal) + 1,
                                     (SELECT count(DISTINCT k.id) FROM app.chunks k JOIN app.text_vectors v USING (tenant_id, text_blind) WHERE k.document_id = %(id)s)
                              FROM app.chunks WHERE document_id = %(id)s""", {"id": document["id"]})
            chunks, distinct, ordinals, vectors = cursor.fetchone()
            assert chunks == distinct == ordinals == vectors == document["chunks"], document


def _try_upload(stack, body, row, accepted):
    answer = stack.upload(body, row["content_type"], row["file"])
    if answer.status_code == 202:
        accepted.append(answer.json()["document_id"])
        return True
    assert answer.status_code in (502, 503, 504), answer.text
    return False


def test_up_again_after_killing_everything(stack):
    kept = stack.ingest(b"Written before everything was killed: the cat is called Hieronymus.")
    pids = [stack.pid(p) for p in PROCESSES]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    stack.cordon("up", "--bare")
    wait_for("ready", stack.is_ready)
    assert stack.call("GET", f"/api/v1/documents/{kept['id']}").status_code == 200
    hits = stack.call("POST", "/api/v1/search", json={"question": "What is the cat called?"}).json()["hits"]
    assert any("Hieronymus" in h["text"] for h in hits)


def test_up_twice_is_harmless(stack):
    pids = [stack.pid(p) for p in PROCESSES]
    stack.cordon("up", "--bare")
    assert [stack.pid(p) for p in PROCESSES] == pids
