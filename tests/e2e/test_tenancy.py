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
    made = stack.upload(b"Lakeside only: the safe word for the housing visit is marmalade.", tenant="lakeside").json()
    stack.wait_ready(made["document_id"], tenant="lakeside")
    return made


ROUTES = [
    ("GET", "/api/v1/documents/{document_id}", None),
    ("GET", "/api/v1/documents/{document_id}/content", None),
    ("PATCH", "/api/v1/documents/{document_id}", {"labels": []}),
    ("DELETE", "/api/v1/documents/{document_id}", None),
    ("GET", "/api/v1/jobs/{job_id}", None),
    ("POST", "/api/v1/jobs/{job_id}/retry", None),
    ("POST", "/api/v1/jobs/{job_id}/cancel", None),
    ("POST", "/api/v1/search", {"question": "safe word?", "filter": {"document_ids": ["{document_id}"]}}),
    ("POST", "/api/v1/query", {"question": "safe word?", "filter": {"document_ids": ["{document_id}"]}}),
]


# Places in the caller's own log, which every tenant's log has: nothing of another's to name.
BY_PLACE = {("GET", "/api/v1/audit/tile/{level}/{tile}"), ("GET", "/api/v1/audit/events/{seq}/proof")}


@pytest.mark.parametrize("method, path, body", ROUTES, ids=[f"{m} {p}" for m, p, _ in ROUTES])
def test_foreign_id_answers_exactly_as_an_absent_one(stack, theirs, fresh_uuid, method, path, body):
    answers = []
    for document_id, job_id in ((theirs["document_id"], theirs["job_id"]), (fresh_uuid, fresh_uuid)):
        filled = {"filter": {"document_ids": [document_id]}, "question": body["question"]} if body and "question" in body else body
        answer = stack.call(method, path.format(document_id=document_id, job_id=job_id), role="admin",
                            **({"json": filled} if filled else {}))
        text = re.sub(r'"(event_id|answer_id)":"[0-9a-f-]{36}"', r'"\1":"ID"', answer.text)
        assert "marmalade" not in text
        answer._content = text.encode()
        answers.append(blind(answer, document_id, job_id))
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
