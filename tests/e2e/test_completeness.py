"""Completeness of the record: every route is called once, and its event is on the log, with actor, tenant and request from
the verified ticket; starts and migrations are on it; and nothing of a document, a name or a number of a patient is."""
import json
import subprocess
import os
import re
import secrets
import uuid

import pytest
import requests

from conftest import ROOT, wait_for

COVERAGE = (ROOT / "common/audit/coverage.def").read_text()
AUDITED = {what: actions.split() for what, actions in re.findall(r'^AUDITED\("([^"]+)",\s*"([^"]+)"\)', COVERAGE, re.M)}
ROUTES = re.findall(r'\{ "([A-Z]+)", "([^"]+)".*?\n\s*\w+, \w+, (NULL|"[^"]+")', (ROOT / "services/edge/routes.c").read_text())

# Their success takes a browser, several factors, a second operator, a witness' key or a tenant of its own: the tests of
# these (tests/service/auth, tests/service/query, tests/e2e) ask for their events.
ELSEWHERE = {"/api/v1/auth/callback", "auth.Logout", "auth.EndSession", "auth.ListSessions", "auth.ListUserSessions", "auth.EndUserSessions",
             "auth.ApproveOffboarding", "query.GetOffboarding", "auth.RotateTenantKey", "auth.CreateTenant", "auth.UpdateTenant", "auth.CreateLabelGrant", "auth.RevokeLabelGrant",
             "auth.BreakGlass", "auth.ListBreakGlass", "auth.EndBreakGlass", "auth.ReviewBreakGlass", "ingest.UpdateDocument", "ingest.CancelJob", "ingest.RetryJob",
             "ingest.CreateErasure", "ingest.CreateReembedding", "ingest.PlaceHold", "ingest.ReleaseHold", "query.ListErasures", "query.GetErasure", "query.GetErasureCertificate", "query.ListHolds",
             "query.GetEvidenceContent", "query.AddCosignatures", "query.GetReceipt", "query.GetAuditReceipt", "query.GetConversation", "query.DeleteConversation"}


def committed(stack, request_id, actions, outcome="success"):
    with stack.database() as db, db.cursor() as cursor:
        def look():
            cursor.execute("SELECT action, tenant_id::text, actor_id::text, event FROM audit.audit_logs WHERE request_id = %s AND action = ANY (%s) AND outcome = %s",
                           (request_id, actions, outcome))
            return cursor.fetchall()
        return wait_for(f"{actions} of request {request_id}", look, 30)


@pytest.fixture(scope="module")
def things(stack):
    """Ids that the routes name, made with words that must not come back."""
    word = f"zxq{secrets.token_hex(6)}"
    form = {"mrn": (None, f"MRN-{word}"), "metadata": (None, json.dumps({"ward": word})), "file": (f"{word}.txt", f"The patient {word} takes {word} daily.".encode(), "text/plain")}
    upload = stack.call("POST", "/api/v1/documents", role="case_worker", files=form)
    assert upload.status_code == 202, upload.text
    document = stack.wait_ready(upload.json()["document_id"])
    return {"word": word, "upload": upload, "document_id": document["id"], "job_id": upload.json()["job_id"], "subject_id": document["subject_id"]}


def run(stack, things):
    """{method on the bus: answer}, one for each route that succeeds with no more than this."""
    word, d, answers = things["word"], things["document_id"], {"ingest.Upload": things["upload"]}
    email = f"{word}@example.org"

    def ask(method, verb, path, role, ok=(200, 201, 202, 204), tenant="demo", **kwargs):
        answer = stack.call(verb, f"/api/v1/{path}", role=role, tenant=tenant, **kwargs)
        assert answer.status_code in ok, (method, answer.status_code, answer.text[:300])
        answers[method] = answer
        return answer.json() if answer.content.startswith(b"{") else {}

    ask("query.ListDocuments", "GET", "documents", "clinician")
    ask("query.GetDocument", "GET", f"documents/{d}", "clinician")
    ask("query.GetContent", "GET", f"documents/{d}/content", "clinician")
    ask("query.FindSubject", "POST", "subjects/lookup", "clinician", json={"mrn": f"MRN-{word}"})
    ask("query.GetJob", "GET", f"jobs/{things['job_id']}", "clinician")
    ask("query.ListJobs", "GET", "jobs", "clinician")
    ask("query.Search", "POST", "search", "clinician", json={"question": f"What does {word} take?", "filter": {"subject_id": things["subject_id"]}})
    answer_id = ask("query.Query", "POST", "query", "clinician", json={"question": f"What does {word} take?"})["answer_id"]
    ask("query.GetAnswer", "GET", f"query/{answer_id}", "clinician")
    ask("query.ListAuditEvents", "GET", "audit/events", "auditor")
    ask("query.ListDisclosures", "GET", f"audit/disclosures?subject_id={things['subject_id']}", "auditor")
    ask("query.ExportDisclosures", "GET", f"audit/disclosures.csv?document_id={d}", "auditor")
    evidence = ask("ingest.CreateEvidence", "POST", "evidence", "admin", json={"subject_id": things["subject_id"], "reason": "audit"})["evidence_id"]
    ask("query.ListEvidence", "GET", "evidence", "admin")
    ask("query.GetEvidence", "GET", f"evidence/{evidence}", "admin")
    ask("ingest.DeleteEvidence", "DELETE", f"evidence/{evidence}", "admin")
    wait_for("a checkpoint", lambda: stack.call("GET", "/api/v1/audit/checkpoint", role="auditor").status_code == 200, 60, 0.5)
    ask("query.ExportAudit", "GET", "audit/export?format=fhir", "auditor")
    for method, path in (("auth.ListUsers", "users"), ("auth.ListRoles", "roles"), ("auth.ListLabels", "labels"), ("auth.ListLabelGrants", "label-grants"), ("auth.ListApiKeys", "api-keys")):
        ask(method, "GET", path, "admin")
    for roles_from in ("token", "both"):        # what is not changed is no event
        ask("auth.UpdateAccess", "PUT", "access", "admin", json={"provisions_users": True, "roles_from": roles_from})
    ask("auth.PutRole", "PUT", "roles/night_shift", "admin", json={"scopes": ["documents:read"]})
    user_id = ask("auth.InviteUser", "POST", "users", "admin", json={"email": email, "name": word})["user_id"]
    ask("auth.AssignRole", "PUT", f"users/{user_id}/roles/night_shift", "admin")
    ask("auth.UnassignRole", "DELETE", f"users/{user_id}/roles/night_shift", "admin")
    ask("auth.UpdateUser", "PATCH", f"users/{user_id}", "admin", json={"status": "disabled"})
    ask("auth.DeleteRole", "DELETE", "roles/night_shift", "admin")
    ask("auth.CreateLabel", "POST", "labels", "admin", json={"label": f"l{secrets.token_hex(4)}"})
    key_id = ask("auth.CreateApiKey", "POST", "api-keys", "admin", json={"name": "of one test", "scopes": ["documents:read"]})["key_id"]
    ask("auth.RevokeApiKey", "DELETE", f"api-keys/{key_id}", "admin")
    ask("auth.ListTenants", "GET", "tenants", "platform_admin", tenant=None, user="operator")
    ask("ingest.DeleteDocument", "DELETE", f"documents/{d}", "case_worker")
    return answers


def test_every_route_says_what_it_puts_on_the_record():
    for _, path, method in ROUTES:
        what = path if method == "NULL" else method.strip('"')
        assert what in AUDITED or f'UNAUDITED("{what}"' in COVERAGE, what


def test_each_route_s_event_is_committed_with_actor_tenant_and_request_from_the_ticket(stack, things):
    answers = run(stack, things)
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT id::text FROM auth.tenants WHERE slug = 'demo'")
        demo = cursor.fetchone()[0]
    routed = {path if method == "NULL" else method.strip('"') for _, path, method in ROUTES}
    assert not {what for what in routed & AUDITED.keys() if what not in answers} - ELSEWHERE, "called neither here nor in the tests named above"
    for method, answer in answers.items():
        rows = committed(stack, answer.headers["X-Request-ID"], AUDITED[method])
        for _, tenant_id, actor_id, event in rows:
            said = json.loads(bytes(event))
            assert said["request_id"] == answer.headers["X-Request-ID"]
            assert actor_id and said["actor_id"] == actor_id, method
            assert tenant_id == (str(uuid.UUID(int=0)) if method == "auth.ListTenants" else demo), method


def test_refusals_and_failed_logins_are_on_the_record(stack):
    refused = stack.call("GET", "/api/v1/audit/disclosures", role="clinician", params={"document_id": str(uuid.uuid4())})
    assert refused.status_code == 403
    committed(stack, refused.headers["X-Request-ID"], ["auth.denied"], "denied")
    unknown = requests.get(stack.url + "/api/v1/documents", headers={"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}, timeout=10)
    assert unknown.status_code == 401
    committed(stack, unknown.headers["X-Request-ID"], ["auth.denied"], "denied")
    nobody = stack.call("POST", "/api/v1/subjects/lookup", json={"mrn": f"MRN-{secrets.token_hex(6)}"})
    assert nobody.status_code == 404
    committed(stack, nobody.headers["X-Request-ID"], ["subject.find"], "failure")


def test_starts_and_migrations_are_on_the_record_without_a_value(stack):
    with stack.database() as db, db.cursor() as cursor:
        def look():
            cursor.execute("SELECT event FROM audit.audit_logs WHERE action IN ('process.start', 'migration.apply') AND tenant_id = %s", (str(uuid.UUID(int=0)),))
            return [json.loads(bytes(row[0])) for row in cursor.fetchall()]
        everybody = {"auth", "ingest-worker", "query", "audit-writer", "edge", "embedding-worker"}
        events = wait_for("starts", lambda: {e["detail"].get("process") for e in look()} >= everybody and look(), 30)
    starts = {e["detail"]["process"]: e["detail"] for e in events if e["action"] == "process.start"}
    assert set(starts) == everybody
    for process, detail in starts.items():
        assert re.fullmatch(r"[0-9a-f]{64}", detail["settings"])
        assert ("DATABASE_URL" in detail["changed"]) == (process not in ("edge", "embedding-worker"))
        assert detail["changed"] and all(re.fullmatch(r"[A-Z0-9_]+", name) for name in detail["changed"])
    applied = {e["detail"]["version"] for e in events if e["action"] == "migration.apply"}
    assert applied == {int(file.name[:4]) for file in (ROOT / "migrations").glob("0*.up.sql")}


@pytest.mark.parametrize("process", ["edge", "embedding-worker", "query", "audit-writer"])
def test_a_restart_is_an_end_and_a_start_on_the_record_and_a_kill_is_a_start_that_tells_of_it(stack, process):
    def said(action):
        with stack.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT resource_id::text, convert_from(event, 'UTF8')::jsonb -> 'detail' ->> 'unended' FROM audit.audit_logs WHERE action = %s "
                           "AND convert_from(event, 'UTF8')::jsonb -> 'detail' ->> 'process' = %s ORDER BY seq", (action, process))
            return cursor.fetchall()
    def begun(count):
        return wait_for("another start", lambda: len(said("process.start")) > count and said("process.start"), 30)
    before, ended = said("process.start"), len(said("process.end"))
    stack.cordon("restart", process)
    after = begun(len(before))
    assert len(after) == len(before) + 1 and len({id for id, _ in after}) == len(after)
    assert [id for id, _ in wait_for("an end", lambda: len(said("process.end")) > ended and said("process.end"), 30)][ended:] == [before[-1][0]]
    subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), "kill", "-9", str(stack.pid(process))], check=True)
    killed = begun(len(after))
    assert int(killed[-1][1]) == int(after[-1][1]) + 1, "one more whose end nobody has heard of"
    assert len(said("process.end")) == ended + 1
    wait_for("ready", stack.is_ready, 30)


def test_nothing_of_a_patient_is_in_the_exported_log(stack, things):
    """Words from a text, a file's name, metadata, a record number, questions, an address and a name."""
    wait_for("an empty outbox", lambda: outbox(stack) == 0, 30)
    for form in ("jsonl", "fhir", "ocsf"):
        def signed():       # the log reaches as far as its newest checkpoint
            answer = stack.call("GET", "/api/v1/audit/export", role="auditor", params={"format": form})
            return answer.status_code == 200 and len(answer.content) > 5000 and answer
        export = wait_for("a signed log", signed, 90, 1)
        assert things["word"].encode() not in export.content
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audit.audit_logs WHERE position(%s::bytea IN event) > 0", (things["word"].encode(),))
        assert cursor.fetchone()[0] == 0


def outbox(stack):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audit.audit_outbox")
        return cursor.fetchone()[0]


def test_a_patient_s_report_names_readers_models_and_passages(stack, things):
    report = stack.call("GET", "/api/v1/audit/disclosures", role="auditor", params={"subject_id": things["subject_id"], "limit": 200})
    assert report.status_code == 200, report.text
    rows = report.json()["disclosures"]
    assert {"original", "passages", "answer", "names"} <= {row["shown"] for row in rows}
    models = [row for row in rows if row["recipient"] == "model"]
    assert models and all(row["model"] for row in models), models
    assert any(row.get("chunk_ids") for row in rows if row["shown"] == "answer")
    csv = stack.call("GET", "/api/v1/audit/disclosures.csv", role="auditor", params={"subject_id": things["subject_id"]})
    assert csv.headers["Content-Type"].startswith("text/csv") and len(csv.text.splitlines()) >= 1 + len(rows)
