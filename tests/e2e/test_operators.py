"""What an operator sees of work that waits: ./cordon status, ./cordon jobs."""
from conftest import wait_for


def row_of(stack, job_id):
    lines = [line for line in stack.cordon("jobs").splitlines() if job_id in line]
    return [cell.strip() for cell in lines[0].split("|")] if lines else None


def test_an_operator_sees_why_a_job_waits_and_since_when(stack):
    stack.stop("embedding-worker")
    try:
        answer = stack.upload(b"Waits: the model is away.")
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["job_id"]

        def stuck():
            row = row_of(stack, job_id)
            return row if row and row[7] else None
        job, tenant, queue, kind, state, stage, attempts, reason, outages, away_for, waits, age = wait_for("a reason", stuck, 30, 0.5)
        assert (tenant, queue, kind) == ("demo", "ingest", "ingest") and reason and int(outages) >= 1 and away_for
        assert attempts.endswith("/5")
        status = stack.cordon("status", check=False)
        assert any(line.split("|")[0].strip() == "ingest" for line in status.splitlines() if "|" in line), status
    finally:
        stack.start("embedding-worker")
    stack.wait_ready(answer.json()["document_id"])
    assert row_of(stack, job_id) is None


def test_status_tells_the_audit_backlog(stack):
    assert any(line.startswith("audit outbox") for line in (l.strip() for l in stack.cordon("status").splitlines()))
