"""The fault points of a tenant's end, which the clients do not come by: the operator's program is killed at each, and run again; then
ingest-worker is killed at each while it destroys what is left, or fails there, and whoever comes next goes on. Nothing is lost or done
twice, the certificate is made once. By a tenant that nobody else plays with, after those who compare what the stack has."""
import json
import secrets
import subprocess

import boto3
import e2e
import pytest
from conftest import IS_LONG
from test_erasure_points import count
from test_points import arm, fired, points

PLATFORM = {"tenant": None, "role": "platform_admin"}
DAY_S = 86400
EMPTY = ("app.documents", "app.chunks", "app.text_vectors", "app.vector_sets", "app.conversations", "app.answers", "app.subjects",
         "keys.document_keys", "keys.tenant_keys", "jobs.jobs")


def told(stack, path):
    answer = stack.call("GET", path, **PLATFORM)
    return answer if answer.status_code == 200 and answer.json()["state"] == "signed" else None


@pytest.fixture
def tenant(stack):
    """With two documents and a conversation; two people have agreed that it ends."""
    slug = f"leaving-{secrets.token_hex(3)}"
    stack.cordon("tenants", "create", slug, "A house that closes")
    id = count(stack, "SELECT id::text FROM auth.tenants WHERE slug = %s", slug)
    for text in (b"The code word of this house is quince.\n", b"It was built in 1871.\n"):
        stack.ingest(text, tenant=slug)
    assert stack.call("POST", "/api/v1/query", json={"question": "What is the code word of this house?"}, tenant=slug).status_code == 200
    for user in ("first", "second"):
        assert stack.call("POST", f"/api/v1/tenants/{id}/offboarding", user=user, **PLATFORM).status_code == 200
    return {"slug": slug, "id": id}


def operator_dies_everywhere(stack, tenant, order, command):
    for point, process, _ in points():
        if process == "offboard":
            name = arm(stack, point, process, order)
            done = stack.offboard(command, tenant["slug"], CORDON_FAULT_DIR=str(stack.faults))
            assert fired(stack, name) and done.returncode == (-9 if order == "kill" else 1), (point, done.returncode, done.stderr)
            for mark in stack.faults.glob(f"{name}.fired.*"):
                mark.rename(stack.faults / f"done.{secrets.token_hex(4)}")
    done = stack.offboard(command, tenant["slug"])
    assert done.returncode == 0, done.stderr


def workers_die_everywhere(stack, tenant, order):
    names = [arm(stack, point, process, order) for point, process, _ in points() if point.startswith("ending.")]
    struck = 0

    def is_over():
        """After each death the lease of the run, which would be waited for, is over; after each failure, the time that it was put off for."""
        nonlocal struck
        before, struck = struck, sum(bool(fired(stack, name)) for name in names)
        is_dead = order == "kill" and struck > before
        with stack.database() as db, db.cursor() as cursor:
            cursor.execute("UPDATE auth.offboardings SET next_at = now() WHERE tenant_id = %s AND next_at > now()", (tenant["id"],))
            cursor.execute("UPDATE jobs.schedules SET next_run_at = now(), lease_until = NULL, lease_owner = NULL WHERE name = 'endings' AND (lease_until IS NULL OR %s)", (is_dead,))
        return struck == len(names) and count(stack, "SELECT state FROM auth.offboardings WHERE tenant_id = %s", tenant["id"]) == "destroyed"
    try:
        e2e.wait_for("struck everywhere and destroyed", is_over, 120, 0.1)
    finally:
        for name in names:
            (stack.faults / name).unlink(missing_ok=True)
            for mark in stack.faults.glob(f"{name}.fired.*"):
                mark.rename(stack.faults / f"done.{order}.{mark.name}")


@pytest.mark.parametrize("order", ["kill"] + ["fail"] * IS_LONG)
def test_a_tenant_ends_once_and_whole_whatever_happens_on_the_way(stack, tenant, order):
    operator_dies_everywhere(stack, tenant, order, "schedule")
    count(stack, "UPDATE auth.offboardings SET delete_at = now() WHERE tenant_id = %s RETURNING 1", tenant["id"])      # the database's clock is not the stand-in's
    stack.later(31 * DAY_S)
    operator_dies_everywhere(stack, tenant, order, "finish")
    workers_die_everywhere(stack, tenant, order)
    e2e.wait_for("ready", stack.is_ready)

    answer = e2e.wait_for("the certificate is signed", lambda: told(stack, f"/api/v1/tenants/{tenant['id']}/offboarding"), 120, 0.3)
    verify = [e2e.ROOT / ".cordon/build/release/services/verify/cordon-verify", "record", "--key", (e2e.STATE / "secrets/.made/checkpoint.verifier").read_text().strip()]
    assert subprocess.run([*verify, "/dev/stdin"], input=answer.content).returncode == 0
    counts = json.loads(answer.json()["certificate"])["destroyed"]["rows"]
    assert (counts["documents"], counts["conversations"], counts["answers"]) == (2, 1, 1), "each counted once, whoever died"

    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT array_agg(coalesce(convert_from(event, 'UTF8')::jsonb #>> '{detail,state}', action) ORDER BY seq) FROM audit.audit_logs "
                       "WHERE tenant_id = %s AND action LIKE 'tenant.%%' AND action NOT IN ('tenant.create', 'tenant.update')", (tenant["id"],))
        assert [what for what in cursor.fetchone()[0] if not what.startswith("tenant.key")] == ["requested", "tenant.offboard.approve", "tenant.offboard.approve", "intended", "scheduled",
                "key_destroyed", "shares_destroyed", "objects_destroyed", "destroyed", "tenant.destroy"]
    for table in EMPTY:
        assert count(stack, f"SELECT count(*) FROM {table} WHERE tenant_id = %s", tenant["id"]) == 0, table
    s3 = boto3.client("s3", **stack.at_cloud())
    for bucket in ("cordon-documents", "cordon-shares"):
        listed = s3.list_object_versions(Bucket=bucket, Prefix=f"tenants/{tenant['id']}/")
        assert not listed.get("Versions") and not listed.get("DeleteMarkers"), bucket
