"""The fault points of archiving months of the audit log, which the clients do not come by: audit-writer is killed at each, or
fails there, and the month leaves the database all the same, once; afterwards the log is exported whole and verifies."""
import datetime
import pathlib
import secrets
import subprocess

import e2e
import killer
import pytest
from test_points import arm, fired, points

OURS = [(point, order) for point, _, can_fail in points() if point.startswith("archive.") for order in ["kill"] + ["fail"] * can_fail]
AUDITOR = {"tenant": "lakeside", "role": "auditor"}


def ask(stack, sql, *args):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute(sql, args)
        row = cursor.fetchone() if cursor.description else None
        db.commit()
        return row[0] if row else None


@pytest.fixture(scope="module")
def archiving(stack):
    """One full month stays; each test takes an older one than the test before."""
    for instance in killer.instances(stack, "audit-writer"):
        (pathlib.Path(stack.info["processes"][instance]["secrets"]) / "CORDON_AUDIT_LIVE_MONTHS").write_text("1\n")
        stack.cordon("restart", instance)
    e2e.wait_for("ready", stack.is_ready)
    return stack


def next_month(stack):
    """A month that is due, with an event of lakeside on the log. Its first day."""
    oldest = ask(stack, "SELECT min(to_date(right(c.relname, 7), 'YYYY_MM')) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
                        "WHERE i.inhparent = 'audit.audit_logs'::regclass")
    month = (oldest - datetime.timedelta(days=40)).replace(day=1)
    at = datetime.datetime(month.year, month.month, 15, tzinfo=datetime.timezone.utc)
    event = f"{int(at.timestamp() * 1000):012x}7{secrets.token_hex(2)[:3]}8{secrets.token_hex(8)[:15]}"
    ask(stack, "SET ROLE cordon_owner; SELECT audit.make_partition('audit.audit_logs', %s), audit.make_partition('audit.document_events', %s)", month, month)
    ask(stack, "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) "
               "SELECT %s::uuid, id, now(), 'tenant.update', '{}', '{}' FROM auth.tenants WHERE slug = 'lakeside'", event)
    e2e.wait_for("the event is on the log", lambda: ask(stack, "SELECT count(*) FROM audit.audit_logs WHERE event_id = %s::uuid", event) == 1, 30, 0.2)
    return month, event


def is_archived(stack, month):
    return ask(stack, "SELECT detached_at IS NOT NULL FROM audit.archive_months WHERE month = %s", month)


@pytest.mark.parametrize("point,order", OURS)
def test_a_month_leaves_the_database_whatever_happens_on_the_way(archiving, point, order):
    month, event = next_month(archiving)
    name = arm(archiving, point, "audit-writer", order)
    try:
        archiving.cordon("restart", killer.instances(archiving, "audit-writer")[0])     # it looks when it starts
        e2e.wait_for(f"{name} reached", lambda: fired(archiving, name), 60)
    finally:
        (archiving.faults / name).unlink(missing_ok=True)
    for mark in archiving.faults.glob(f"{name}.fired.*"):
        mark.rename(archiving.faults / f"done.{order}.{mark.name}")
    e2e.wait_for(f"{month} is archived", lambda: is_archived(archiving, month), 60, 0.2)
    assert ask(archiving, "SELECT count(*) FROM audit.archives WHERE month = %s", month) == 1
    assert ask(archiving, "SELECT event IS NULL AND archive_bytes > 0 FROM audit.audit_logs WHERE event_id = %s::uuid", event)


def test_the_log_with_its_archived_months_is_exported_whole_and_verifies(archiving):
    export = archiving.call("GET", "/api/v1/audit/export", **AUDITOR)
    assert export.status_code == 200, export.text[:500]
    done = subprocess.run([e2e.ROOT / ".cordon/build/release/services/verify/cordon-verify", "--no-key", "-"], input=export.content, capture_output=True)
    assert done.returncode == 0, done.stdout
    assert ask(archiving, "SELECT count(*) FROM audit.audit_logs WHERE event IS NULL") > 0
    listed = archiving.call("GET", "/api/v1/audit/events?limit=200", **AUDITOR)
    assert listed.status_code == 200 and all(e["event"]["v"] == 1 for e in listed.json()["events"])


def test_what_was_archived_is_verified_again_and_only_then_dropped(archiving):
    month = ask(archiving, "SELECT min(month) FROM audit.archives")
    archiving.cordon("restart", killer.instances(archiving, "audit-writer")[0])
    e2e.wait_for("verified", lambda: ask(archiving, "SELECT verified_at IS NOT NULL FROM audit.archive_months WHERE month = %s", month), 60, 0.2)
    with archiving.database() as db, db.cursor() as cursor:
        cursor.execute("SET ROLE cordon_owner")
        cursor.execute("SELECT audit.drop_archived(%s)", (month,))
        db.commit()
    assert archiving.call("GET", "/api/v1/audit/export", **AUDITOR).status_code == 200
