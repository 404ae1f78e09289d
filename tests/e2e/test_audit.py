"""Evidence before bytes: what was shown or changed is on the record, and without the record nothing is shown."""
import hashlib
import json
import uuid

import pytest
import requests

from conftest import wait_for


def events(stack, tenant="demo", **params):
    out, cursor = [], None
    while True:
        answer = stack.call("GET", "/api/v1/audit/events", tenant=tenant, role="auditor",
                            params={**params, "limit": 200, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        out += answer.json()["events"]
        cursor = answer.json().get("next_cursor")
        if not cursor:
            return out


def wait_event(stack, action, document_id, **more):
    return wait_for(f"{action} of {document_id}", lambda: [
        e for e in events(stack, action=action, document_id=document_id)
        if all(e.get(k) == v for k, v in more.items())])[0]


def test_each_step_of_a_document_s_life_is_recorded(stack):
    answer = stack.upload(b"Audit sample: gait steady, no falls since March.")
    document_id, request_id = answer.json()["document_id"], answer.headers["X-Request-ID"]
    stack.wait_ready(document_id)
    created = wait_event(stack, "document.create", document_id)
    assert created["request_id"] == request_id
    assert created["outcome"] == "success"
    wait_event(stack, "model.disclose", document_id)
    content = stack.call("GET", f"/api/v1/documents/{document_id}/content")
    assert wait_event(stack, "document.content.read", document_id)["request_id"] == content.headers["X-Request-ID"]
    search = stack.call("POST", "/api/v1/search", json={"question": "falls since March?", "filter": {"document_ids": [document_id]}})
    disclosed = wait_event(stack, "search.disclose", document_id)
    assert disclosed["id"] == search.json()["event_id"]
    assert disclosed["actor_id"] == created["actor_id"]
    stack.call("DELETE", f"/api/v1/documents/{document_id}")
    wait_event(stack, "document.delete", document_id)


def test_a_stored_leaf_hash_covers_the_exported_bytes_and_no_phi_is_in_them(stack):
    document = stack.ingest(b"Canary of the log: the patient's nickname is Quillfeather.", name="quillfeather.txt")
    stack.call("POST", "/api/v1/query", json={"question": "What is the nickname Quillfeather about?"})
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT event, leaf_hash FROM audit.audit_logs")
        rows = cursor.fetchall()
    assert len(rows) > 3
    for event, leaf in rows:
        assert hashlib.sha256(b"\x00" + bytes(event)).digest() == bytes(leaf)
        assert b"uillfeather" not in bytes(event)
        json.loads(bytes(event))
    assert document


def test_each_tenant_s_sequence_has_no_gap_and_the_heads_agree(stack):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("""SELECT l.tenant_id, count(*), min(l.seq), max(l.seq), count(DISTINCT l.seq), h.size
                          FROM audit.audit_logs l JOIN audit.audit_heads h USING (tenant_id) GROUP BY 1, 6""")
        rows = cursor.fetchall()
    assert rows
    for _, count, low, high, distinct, size in rows:
        assert count == distinct == high - low + 1 == size


def test_only_an_auditor_reads_the_log_and_reading_is_recorded(stack):
    for role in ("clinician", "admin", "reviewer", "case_worker"):
        assert stack.call("GET", "/api/v1/audit/events", role=role).status_code == 403
    answer = stack.call("GET", "/api/v1/audit/events", role="auditor")
    assert answer.status_code == 200
    request_id = answer.headers["X-Request-ID"]
    assert wait_for("audit.read", lambda: [e for e in events(stack, action="audit.read") if e["request_id"] == request_id])


def test_an_auditor_sees_only_their_own_tenant_s_log(stack):
    lakeside = {e["id"] for e in events(stack, tenant="lakeside")}
    demo = {e["id"] for e in events(stack)}
    assert lakeside and demo and not lakeside & demo


def test_denials_are_recorded(stack):
    refused = stack.call("GET", "/api/v1/documents", role="auditor")
    assert refused.status_code == 403
    request_id = refused.headers["X-Request-ID"]
    with stack.database() as db, db.cursor() as cursor:
        wait_for("the denial", lambda: cursor.execute(
            "SELECT 1 FROM audit.audit_logs WHERE request_id = %s AND outcome = 'denied'", (request_id,)) or cursor.fetchone())
    nobody = requests.get(stack.url + "/api/v1/documents", headers={"Authorization": "Bearer nonsense"}, timeout=10)
    with stack.database() as db, db.cursor() as cursor:
        wait_for("the failed login", lambda: cursor.execute(
            "SELECT 1 FROM audit.audit_logs WHERE request_id = %s AND tenant_id = %s",
            (nobody.headers["X-Request-ID"], str(uuid.UUID(int=0)))) or cursor.fetchone())


@pytest.fixture
def without_audit(stack):
    stack.stop("audit-writer")
    yield
    stack.start("audit-writer")


def test_without_the_audit_writer_nothing_is_shown_and_uploads_wait_for_their_record(stack, request):
    document = stack.ingest(b"Fail closed sample: the spare key is under the blue flowerpot.")
    request.getfixturevalue("without_audit")
    for method, path, body in [
            ("GET", f"/api/v1/documents/{document['id']}/content", None),
            ("GET", f"/api/v1/documents/{document['id']}", None),
            ("GET", "/api/v1/documents", None),
            ("POST", "/api/v1/search", {"question": "Where is the spare key?"}),
            ("POST", "/api/v1/query", {"question": "Where is the spare key?"})]:
        answer = stack.call(method, path, **({"json": body} if body else {}))
        assert (answer.status_code, answer.json()["code"]) == (503, "AUDIT_001"), (path, answer.text)
        assert "flowerpot" not in answer.text
        assert "Retry-After" in answer.headers
    uploaded = stack.upload(b"Uploaded while the audit writer slept.")
    assert uploaded.status_code == 202
    stack.start("audit-writer")
    stack.wait_ready(uploaded.json()["document_id"])
    created = wait_event(stack, "document.create", uploaded.json()["document_id"])
    assert created["request_id"] == uploaded.headers["X-Request-ID"]
    assert stack.call("GET", f"/api/v1/documents/{document['id']}/content").status_code == 200
