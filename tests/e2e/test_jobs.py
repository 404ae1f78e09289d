"""Background work as people and operators meet it: lists, cancel, retry."""
from conftest import fresh_uuid, wait_for

LONG = ("The potassium was measured again in the morning. " * 400).encode()


def job_of(stack, document_id, **who):
    jobs = stack.call("GET", f"/api/v1/jobs?document_id={document_id}", **who).json()["jobs"]
    assert len(jobs) == 1, jobs
    return jobs[0]


def cancelled(stack):
    """A document, its job, and what the answer was when that was to be cancelled, which it may be too late for."""
    document_id = stack.upload(LONG).json()["document_id"]
    job = job_of(stack, document_id)
    answer = stack.call("POST", f"/api/v1/jobs/{job['id']}/cancel")
    return document_id, job, answer


def test_a_job_is_cancelled_and_tried_again(stack):
    document_id, job, answer = cancelled(stack)
    if answer.status_code == 409:       # it was faster: then it is done and stays so
        assert answer.json()["code"] == "JOB_001"
        assert stack.wait_ready(document_id)["status"] == "ready"
        answer = stack.call("POST", f"/api/v1/jobs/{job['id']}/retry")
        assert (answer.status_code, answer.json()["code"]) == (409, "JOB_002")
        return
    assert answer.status_code == 202, answer.text
    state = wait_for("job over", lambda: (s := job_of(stack, document_id)["state"]) in ("cancelled", "succeeded") and s)
    if state == "cancelled":
        document = stack.call("GET", f"/api/v1/documents/{document_id}").json()["document"]
        assert (document["status"], document["reason_code"]) == ("failed", "cancelled")
        assert stack.call("POST", f"/api/v1/jobs/{job['id']}/retry").status_code == 202
        assert stack.wait_ready(document_id)["status"] == "ready"


def test_what_was_given_up_is_listed_and_other_tenants_see_none_of_it(stack, fresh_uuid):
    document_id = stack.upload(b"%PDF-1.4 nothing of a PDF", content_type="application/pdf", name="broken.pdf").json()["document_id"]
    wait_for("dead", lambda: job_of(stack, document_id)["state"] == "dead")
    dead = stack.call("GET", "/api/v1/jobs?state=dead&limit=100").json()["jobs"]
    mine = [j for j in dead if j["document_id"] == document_id]
    assert mine and mine[0]["reason_code"] == "DOC_004" and mine[0]["attempt"] == 1, dead
    assert all(j["document_id"] != document_id for j in stack.call("GET", "/api/v1/jobs?limit=100", tenant="lakeside").json().get("jobs", []))
    for verb in ("cancel", "retry"):
        foreign = stack.call("POST", f"/api/v1/jobs/{mine[0]['id']}/{verb}", tenant="lakeside")
        absent = stack.call("POST", f"/api/v1/jobs/{fresh_uuid}/{verb}", tenant="lakeside")
        assert foreign.status_code == absent.status_code, (foreign.text, absent.text)
        assert stack.call("POST", f"/api/v1/jobs/{mine[0]['id']}/{verb}", role="reviewer").status_code == 403
    assert stack.call("GET", "/api/v1/jobs?state=gone").status_code == 400
