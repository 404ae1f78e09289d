"""Another tenant's things do not exist: the same answer as for an id that nobody has, on every route."""
import re

import pytest

import test_identity


def blind(answer, *ids):
    """The parts of an answer that a prober could compare, without the ids that he sent or that are fresh."""
    text = answer.text
    for value in ids + (answer.headers.get("X-Request-ID", ""),):
        text = text.replace(value, "ID")
    headers = {k.lower(): v for k, v in answer.headers.items() if k.lower() not in ("date", "x-request-id", "server-timing")}
    return answer.status_code, headers, text


@pytest.fixture(scope="module")
def theirs(stack):
    """One of everything that lakeside has and demo asks for by id."""
    def post(path, role, **body):
        answer = stack.call("POST", f"/api/v1/{path}", tenant="lakeside", role=role, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()
    made = stack.upload(b"Lakeside only: the safe word for the housing visit is marmalade.", tenant="lakeside").json()
    doomed = stack.upload(b"Lakeside only, and not for long: marmalade.", tenant="lakeside").json()
    for document in (made, doomed):
        stack.wait_ready(document["document_id"], tenant="lakeside")
    answer = post("query", "clinician", question="What is the safe word for the housing visit?")
    me = stack.call("GET", "/api/v1/auth/me", tenant="lakeside").json()
    return {"document_id": made["document_id"], "job_id": made["job_id"], "answer_id": answer["answer_id"], "conversation_id": answer["conversation_id"],
            "erasure_id": post("erasures", "admin", document_ids=[doomed["document_id"]], reason="wrong_upload")["erasure_id"],
            "hold_id": post("holds", "admin", document_id=made["document_id"], reason="audit")["hold_id"],
            "evidence_id": post("evidence", "admin", document_ids=[made["document_id"]], reason="audit")["evidence_id"],
            "session_id": me["session"]["id"], "user_id": me["user_id"]}


ROUTES = [
    ("GET", "/api/v1/documents/{document_id}", None),
    ("GET", "/api/v1/documents/{document_id}/content", None),
    ("PATCH", "/api/v1/documents/{document_id}", {"labels": []}),
    ("DELETE", "/api/v1/documents/{document_id}", None),
    ("GET", "/api/v1/jobs/{job_id}", None),
    ("POST", "/api/v1/jobs/{job_id}/retry", None),
    ("POST", "/api/v1/jobs/{job_id}/cancel", None),
    ("GET", "/api/v1/query/{answer_id}", None),
    ("GET", "/api/v1/query/{answer_id}/receipt", None),
    ("GET", "/api/v1/audit/receipts/{answer_id}", None),
    ("GET", "/api/v1/conversations/{conversation_id}", None),
    ("DELETE", "/api/v1/conversations/{conversation_id}", None),
    ("GET", "/api/v1/erasures/{erasure_id}", None),
    ("GET", "/api/v1/erasures/{erasure_id}/certificate", None),
    ("DELETE", "/api/v1/holds/{hold_id}", None),
    ("GET", "/api/v1/evidence/{evidence_id}", None),
    ("GET", "/api/v1/evidence/{evidence_id}/content", None),
    ("DELETE", "/api/v1/evidence/{evidence_id}", None),
    ("DELETE", "/api/v1/auth/sessions/{session_id}", None),
    ("GET", "/api/v1/users/{user_id}/sessions", None),
    ("DELETE", "/api/v1/users/{user_id}/sessions", None),
    ("POST", "/api/v1/search", {"question": "safe word?", "filter": {"document_ids": ["{document_id}"]}}),
    ("POST", "/api/v1/query", {"question": "safe word?", "filter": {"document_ids": ["{document_id}"]}}),
]


# Not walked: places in the caller's own log, which every tenant's log has: nothing of another's to name.
BY_PLACE = {("POST", "/api/v1/tenants/{tenant_id}/offboarding"), ("GET", "/api/v1/tenants/{tenant_id}/offboarding"),     # the platform's, who have no tenant
            ("GET", "/api/v1/audit/tile/{level}/{tile}"), ("GET", "/api/v1/audit/events/{seq}/proof")}


@pytest.mark.parametrize("method, path, body", ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])
def test_foreign_id_answers_exactly_as_an_absent_one(stack, theirs, fresh_uuid, method, path, body):
    answers = []
    for ids in (theirs, dict.fromkeys(theirs, fresh_uuid)):
        filled = {"filter": {"document_ids": [ids["document_id"]]}, "question": body["question"]} if body and "question" in body else body
        answer = stack.call(method, path.format(**ids), role="auditor" if path.startswith("/api/v1/audit/") else "admin",
                            **({"json": filled} if filled else {}))
        text = re.sub(r'"(event_id|answer_id|conversation_id)":"[0-9a-f-]{36}"', r'"\1":"ID"', answer.text)
        assert "marmalade" not in text
        answer._content = text.encode()
        answers.append(blind(answer, *ids.values()))
    assert answers[0][0] == answers[1][0]
    assert answers[0][2] == answers[1][2]
    assert {k: v for k, v in answers[0][1].items() if k != "content-length"} == \
           {k: v for k, v in answers[1][1].items() if k != "content-length"}


def test_their_document_is_still_there_for_them(stack, theirs):
    assert stack.call("GET", f"/api/v1/documents/{theirs['document_id']}", tenant="lakeside").status_code == 200


def test_every_route_with_an_id_is_in_this_walk(stack):
    """A new route must be added above: the OpenAPI document is printed from the edge's own table."""
    paths = stack.call("GET", "/openapi.json", token="").json()["paths"]
    with_ids = {(verb.upper(), path) for path, verbs in paths.items() for verb in verbs
                if "{" in path and verb in ("get", "post", "put", "patch", "delete")}
    assert with_ids <= {(m, p) for m, p, _ in ROUTES} | set(test_identity.ROUTES_WITH_IDS) | BY_PLACE


def test_search_and_query_never_show_the_other_tenant(stack, theirs):
    for tenant, sees in (("demo", False), ("lakeside", True)):
        hits = stack.call("POST", "/api/v1/search", tenant=tenant, json={"question": "safe word for the housing visit", "top_k": 32})
        assert hits.status_code == 200, hits.text
        assert ("marmalade" in hits.text) is sees
        answer = stack.call("POST", "/api/v1/query", tenant=tenant, json={"question": "What is the safe word for the housing visit?"})
        assert ("marmalade" in answer.text) is sees


def test_a_token_for_an_unknown_tenant_is_refused(stack):
    answer = stack.call("GET", "/api/v1/documents", tenant="no-such-tenant")
    assert (answer.status_code, answer.json()["code"]) == (403, "AUTH_005")
