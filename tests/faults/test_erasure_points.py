"""The fault points of erasures, packages of evidence and rotations, which the other clients do not come by: a process is killed at each, or
fails there, and the work is done all the same, once, with nothing left. By a tenant that nobody else plays with."""
import secrets
import subprocess

import e2e
import pytest
from test_points import arm, fired, points

OURS = [(point, process, order) for point, process, can_fail in points() if point.split(".")[0] in ("erasure", "evidence", "rewrap", "rotation")
        for order in ["kill"] + ["fail"] * can_fail]
WHO = {"tenant": "lakeside", "role": "admin"}


def ask_until(stack, wanted, method, path, who=None, **kwargs):
    """A process dies meanwhile, so the answer may be that it is not there; what was done before is refused as such."""
    def answered():
        answer = stack.call(method, path, **(who or WHO), **kwargs)
        return [answer] if answer.status_code in wanted else None      # a refusal is false by itself
    return e2e.wait_for(f"{method} {path}", answered, 60, 0.3)[0]


def count(stack, sql, *args):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchone()[0]


def erase(stack, document, mrn=None, who=None):
    """The document by itself, or by its patient."""
    what = {"document_ids": [document]}
    if mrn:
        what = {"subject_id": ask_until(stack, (200,), "POST", "/api/v1/subjects/lookup", json={"mrn": mrn}).json()["subject_id"]}
    ask_until(stack, (202, 404), "POST", "/api/v1/erasures", who, json={"reason": "wrong_upload", **what})
    e2e.wait_for("the erasure is done", lambda: count(stack, "SELECT count(*) FROM app.erasure_items i JOIN app.erasures e ON e.tenant_id = i.tenant_id "
                 "AND e.id = i.erasure_id WHERE i.id = %s AND e.done_at IS NOT NULL", document), 60, 0.2)
    assert count(stack, "SELECT (SELECT count(*) FROM app.documents WHERE id = %s) + (SELECT count(*) FROM keys.document_keys WHERE document_id = %s)",
                 document, document) == 0
    assert count(stack, "SELECT count(*) FROM app.erasure_items WHERE id = %s AND state = 'destroyed'", document) == 1


def rotate(stack):
    ask_until(stack, (202, 409), "POST", "/api/v1/keys/rotations")
    e2e.wait_for("the rotation is done", lambda: count(
        stack, "SELECT count(*) FROM jobs.jobs WHERE kind = 'rewrap' AND state <> 'succeeded'") == 0, 60, 0.2)
    assert count(stack, "SELECT count(*) FROM keys.tenant_keys k JOIN auth.tenants t ON t.id = k.tenant_id WHERE t.slug = 'lakeside' AND kind = 'data'") == 1


def pack(stack, document):
    ordered = ask_until(stack, (202,), "POST", "/api/v1/evidence", json={"document_ids": [document], "reason": "audit", "idempotency_key": document})
    evidence = ordered.json()["evidence_id"]
    e2e.wait_for("the package", lambda: ask_until(stack, (200,), "GET", f"/api/v1/evidence/{evidence}").json()["evidence"]["status"] == "ready", 120, 0.3)
    archive = ask_until(stack, (200,), "GET", f"/api/v1/evidence/{evidence}/content").content
    done = subprocess.run([e2e.ROOT / ".cordon/build/release/services/verify/cordon-verify", "evidence", "--no-key", "-"], input=archive, capture_output=True)
    assert done.returncode == 0, done.stdout


WORK = {"erasure": erase, "evidence": lambda stack, document, _: pack(stack, document)}


@pytest.mark.parametrize("point,process,order", OURS)
def test_an_erasure_a_package_or_a_rotation_survives_a_fault(stack, point, process, order):
    body = f"A note of {secrets.token_hex(8)}.\n".encode()
    mrn = f"MRN-{secrets.token_hex(6)}" if order == "kill" else None
    uploaded = ask_until(stack, (202,), "POST", "/api/v1/documents", files={**({"mrn": (None, mrn)} if mrn else {}), "file": ("note.txt", body, "text/plain")})
    document = uploaded.json()["document_id"]
    assert stack.wait_ready(document, **WHO)["status"] == "ready"
    name = arm(stack, point, process, order)
    try:
        WORK.get(point.split(".")[0], lambda stack, _, __: rotate(stack))(stack, document, mrn)
        e2e.wait_for(f"{name} reached", lambda: fired(stack, name), 15)         # some come by when what is waited for is committed already
    finally:
        (stack.faults / name).unlink(missing_ok=True)
        for mark in stack.faults.glob(f"{name}.fired.*"):
            mark.rename(stack.faults / f"done.{order}.{mark.name}")
    if not point.startswith("erasure."):
        e2e.wait_for("readable", lambda: (a := stack.call("GET", f"/api/v1/documents/{document}/content", **WHO)).status_code == 200 and a.content == body, 60)
        erase(stack, document)
    e2e.wait_for("ready", stack.is_ready, 60)
