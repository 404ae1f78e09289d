"""The fault points of archiving months of the audit log, which the clients do not come by: audit-writer is killed at each, or
fails there, and the month leaves the database all the same, once; afterwards the log is exported whole and verifies.
Last of all by its name: it uploads and erases on the stack whose documents others compare with what its clients were told."""
import contextlib
import datetime
import io
import json
import pathlib
import secrets
import subprocess
import tarfile
import uuid

import boto3
import e2e
import killer
import pytest
import requests
from test_points import arm, fired, points

OURS = [(point, order) for point, _, can_fail in points() if point.startswith("archive.") for order in ["kill"] + ["fail"] * can_fail]
AUDITOR = {"tenant": "lakeside", "role": "auditor"}


def ask(stack, sql, *args):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute(sql, args)
        row = cursor.fetchone() if cursor.description else None
        db.commit()
        return row[0] if row else None


def keep_months(stack, months):
    """How many full months stay in the database; 0: all do. The archivers begin anew with it."""
    for instance in killer.instances(stack, "audit-writer"):
        (pathlib.Path(stack.info["processes"][instance]["secrets"]) / "CORDON_AUDIT_LIVE_MONTHS").write_text(f"{months}\n")
    stack.cordon("restart", "audit-writer")         # all of them
    e2e.wait_for("ready", stack.is_ready)


@contextlib.contextmanager
def not_yet(stack):
    """What is made due meanwhile stays until the end: an archiver that failed before looks again at a time of its own, and a
    month that it has begun takes no more events."""
    keep_months(stack, 0)
    yield
    keep_months(stack, 1)


@pytest.fixture(scope="module")
def archiving(stack):
    """One full month stays; each test takes an older one than the test before."""
    keep_months(stack, 1)
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
    with not_yet(archiving):        # at its end they begin anew, and look when they start
        month, event = next_month(archiving)
        name = arm(archiving, point, "audit-writer", order)
    try:
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


# ---- what rests on archived events: receipts, certificates, packages ----

ADMIN = {"tenant": "lakeside", "role": "admin"}
VERIFY = e2e.ROOT / ".cordon/build/release/services/verify/cordon-verify"
AGE = """CREATE FUNCTION public.age() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    NEW.event_id := encode(overlay(uuid_send(NEW.event_id) PLACING substring(int8send(%d) FROM 3) FROM 1 FOR 6), 'hex')::uuid; RETURN NEW; END $$;
    REVOKE ALL ON FUNCTION public.age() FROM PUBLIC;
    CREATE TRIGGER age BEFORE INSERT ON audit.audit_outbox FOR EACH ROW EXECUTE FUNCTION public.age(); ALTER TABLE audit.audit_outbox ENABLE ALWAYS TRIGGER age"""


@contextlib.contextmanager
def ageing(stack, month):
    """What the database puts on the record meanwhile has ids of that month, as if it had happened then."""
    at = datetime.datetime(month.year, month.month, 16, tzinfo=datetime.timezone.utc)
    ask(stack, AGE % int(at.timestamp() * 1000))
    try:
        yield
    finally:
        ask(stack, "DROP TRIGGER age ON audit.audit_outbox; DROP FUNCTION public.age()")


def call(stack, method, path, want=200, **who):
    answer = stack.call(method, f"/api/v1/{path}", **who)
    assert answer.status_code == want, answer.text
    return answer


def record(stack, path, **who):
    """Once its event is signed."""
    def signed():
        answer = call(stack, "GET", path, **who)
        return answer.json()["state"] == "signed" and answer
    return e2e.wait_for(f"{path} is signed", signed, 60, 0.3)


def verified(command, content):
    key = subprocess.run(["cat", e2e.STATE / "secrets/.made/checkpoint.verifier"], capture_output=True, text=True, check=True).stdout.strip()
    done = subprocess.run([VERIFY, command, "--key", key, "/dev/stdin"], input=content, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def old_case(archiving):
    """A document, an answer from it and an erasure, of a month that is archived: what was said of them before."""
    since = datetime.datetime.now(datetime.timezone.utc)
    with not_yet(archiving):
        month, _ = next_month(archiving)
        with ageing(archiving, month):
            kept, erased = (archiving.ingest(text, tenant="lakeside")["id"] for text in (b"The patient takes 5 mg of warfarin daily.", b"A note that is to go."))
            erasure = call(archiving, "POST", "erasures", 202, json={"document_ids": [erased], "reason": "patient_request"}, **ADMIN).json()["erasure_id"]
            e2e.wait_for("the erasure", lambda: call(archiving, "GET", f"erasures/{erasure}", **ADMIN).json()["erasure"]["state"] == "done", 60)
            asked = call(archiving, "POST", "query", tenant="lakeside", json={"question": "How much warfarin does the patient take?"}).json()
        case = {"since": since, "month": month, "document": kept, "receipt": f"query/{asked['answer_id']}/receipt", "answer": asked["answer_id"], "certificate": f"erasures/{erasure}/certificate"}
        case["before"] = {"receipt": record(archiving, case["receipt"], tenant="lakeside").json(), "certificate": record(archiving, case["certificate"], **ADMIN).json()}
    e2e.wait_for(f"{month} is archived", lambda: is_archived(archiving, month), 60, 0.2)
    for what in ("receipt", "certificate"):
        assert ask(archiving, "SELECT event IS NULL FROM audit.audit_logs l JOIN auth.tenants t ON t.id = l.tenant_id WHERE t.slug = 'lakeside' AND l.seq = %s",
                   case["before"][what]["seq"]), what
    return case


@pytest.mark.parametrize("what,who", [("receipt", {"tenant": "lakeside"}), ("certificate", ADMIN)])
def test_records_whose_events_are_archived_are_what_they_were_and_verify(archiving, old_case, what, who):
    answer = record(archiving, old_case[what], **who)
    assert {name: answer.json()[name] for name in (what, "event", "seq", "leaf_hash")} == {name: old_case["before"][what][name] for name in (what, "event", "seq", "leaf_hash")}
    verified("record", answer.content)
    with bucket_away(archiving):
        refused = archiving.call("GET", f"/api/v1/{old_case[what]}", **who)
        assert (refused.status_code, refused.json()["code"]) == (503, "AUDIT_004"), refused.text
    record(archiving, old_case[what], **who)


def test_a_receipt_of_an_archived_answer_still_opens(archiving, old_case):
    answer = call(archiving, "GET", old_case["receipt"] + "?open=true", tenant="lakeside")
    assert "warfarin" in answer.json()["question"]
    verified("record", answer.content)
    verified("record", call(archiving, "GET", f"audit/receipts/{old_case['answer']}", **AUDITOR).content)


@contextlib.contextmanager
def bucket_away(stack):
    url = f"{stack.info['cloud']['url']}/_control"
    requests.post(url, json={"rules": [{"service": "s3", "operation": "GetObject", "resource": "cordon-anchor/tenants/", "kind": "error503"}]}, timeout=10).raise_for_status()
    try:
        yield
    finally:
        requests.post(url, json={"rules": []}, timeout=10).raise_for_status()


def package(stack, **of):
    return call(stack, "POST", "evidence", 202, json={"reason": "litigation", **of}, **ADMIN).json()["evidence_id"]


def packed(stack, evidence_id):
    def ready():
        evidence = call(stack, "GET", f"evidence/{evidence_id}", **ADMIN).json()["evidence"]
        assert evidence["status"] != "failed", evidence
        return evidence["status"] == "ready"
    e2e.wait_for("the package", ready, 120, 0.3)
    content = call(stack, "GET", f"evidence/{evidence_id}/content", **ADMIN).content
    verified("evidence", content)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    lines = [json.loads(line) for name, data in members.items() if name.startswith("events/") for line in data.splitlines()]
    return members, [line for line in lines if "action" in line]


def is_old(event, month):
    made = datetime.datetime.fromtimestamp(int(event["event_id"].replace("-", "")[:12], 16) / 1000, datetime.timezone.utc)
    return (made.year, made.month) == (month.year, month.month)


@pytest.mark.parametrize("of", ["documents", "span"])
def test_a_package_holds_archived_events_and_waits_while_they_cannot_be_read(archiving, old_case, of):
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=1)
    span = {"from_at": old_case["since"].strftime("%Y-%m-%dT%H:%M:%SZ"), "to_at": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
    with bucket_away(archiving):
        evidence_id = package(archiving, **(span if of == "span" else {"document_ids": [old_case["document"]]}))
        e2e.wait_for("the job waits", lambda: ask(archiving, "SELECT outages > 0 FROM jobs.jobs j JOIN app.evidence e ON e.job_id = j.id WHERE e.id = %s", evidence_id), 60, 0.2)
    members, events = packed(archiving, evidence_id)
    old = {event["action"] for event in events if is_old(event, old_case["month"])}
    assert {"document.create", "answer.receipt"} <= old, old
    assert "answer.disclose" in {event["action"] for event in events if not is_old(event, old_case["month"])}
    assert old_case["before"]["receipt"]["event"] in [json.dumps(e, separators=(",", ":"), sort_keys=True) for e in events]
    receipts = [json.loads(line) for name, data in members.items() if name.startswith("receipts/") for line in data.splitlines()]
    assert old_case["answer"] in {receipt["answer_id"] for receipt in receipts}
    if of == "span":
        seqs = [event["seq"] for event in events]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs))) and "erasure.complete" in old


# ---- the operator's word, by the program ----

def operator(stack, *words, want=0):
    """cordon-migrate as an operator runs it. What it complains of."""
    env = {"DATABASE_URL": stack.info["postgres"]["admin_url"], "ENVIRONMENT": "development", "CORDON_MIGRATIONS": str(e2e.ROOT / "migrations")}
    done = subprocess.run([e2e.ROOT / ".cordon/build/release/services/migrate/cordon-migrate", *words], env=env, capture_output=True, text=True)
    assert done.returncode == want, (words, done.returncode, done.stdout, done.stderr)
    return done.stderr


def look_again(stack):
    stack.cordon("restart", killer.instances(stack, "audit-writer")[0])


def legal_holds(stack, month):
    """What S3 says of the month's objects."""
    cloud = stack.info["cloud"]
    s3 = boto3.client("s3", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=cloud["access_key_id"], aws_secret_access_key=cloud["secret_access_key"])
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket="cordon-anchor", Prefix="tenants/").get("Contents", []) if f"/log/{month:%Y-%m}/" in o["Key"]]
    def held(key):
        try:
            return s3.get_object_legal_hold(Bucket="cordon-anchor", Key=key)["LegalHold"]["Status"]
        except s3.exceptions.ClientError:
            return "OFF"
    return {key.split("/")[1]: held(key) for key in keys}


def words_on_record(stack):
    """What operators have said of the platform's log, in order."""
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT convert_from(event, 'UTF8')::jsonb FROM audit.audit_logs WHERE tenant_id = %s AND event IS NOT NULL AND action IN ('hold.place', 'hold.release', 'archive.drop') ORDER BY seq",
                       (str(uuid.UUID(int=0)),))
        return [(e["action"], e["detail"].get("reason") or e["detail"].get("month")) for e, in cursor]


def test_an_operator_holds_releases_and_drops_by_the_program_and_it_is_on_the_record(archiving):
    before = len(words_on_record(archiving))
    with not_yet(archiving):
        month, event = next_month(archiving)
        platforms = event[:-4] + "0000"
        ask(archiving, "INSERT INTO audit.audit_outbox (event_id, tenant_id, occurred_at, action, document_ids, detail) VALUES (%s::uuid, %s::uuid, now(), 'tenant.update', '{}', '{}')",
            platforms, str(uuid.UUID(int=0)))
        e2e.wait_for("the event is on the log", lambda: ask(archiving, "SELECT count(*) FROM audit.audit_logs WHERE event_id = %s::uuid", platforms) == 1, 30, 0.2)
        label = f"{month:%Y-%m}"
        operator(archiving, "hold-audit", "--reason", "case-9")
    first = killer.instances(archiving, "audit-writer")[0]
    e2e.wait_for("the hold is seen", lambda: killer.metrics(archiving, first).get("cordon_audit_archive_held_months") == 1, 60, 0.2)
    assert not is_archived(archiving, month)
    assert "were not verified" in operator(archiving, "drop-archived", "--month", label, want=1)
    operator(archiving, "release-audit")
    assert "nothing" in operator(archiving, "release-audit", want=1)
    look_again(archiving)
    e2e.wait_for(f"{month} is archived", lambda: is_archived(archiving, month), 60, 0.2)

    operator(archiving, "hold-audit", "--reason", "case-10")
    look_again(archiving)
    e2e.wait_for("S3 holds the platform's object, and no other", lambda: sorted(legal_holds(archiving, month).values()) == ["OFF", "ON"], 60, 0.2)
    assert legal_holds(archiving, month)[str(uuid.UUID(int=0))] == "ON"
    e2e.wait_for("verified", lambda: ask(archiving, "SELECT verified_at IS NOT NULL FROM audit.archive_months WHERE month = %s", month), 60, 0.2)
    assert "legal hold" in operator(archiving, "drop-archived", "--month", label, want=1)
    operator(archiving, "release-audit")
    look_again(archiving)
    e2e.wait_for("S3 holds nothing", lambda: set(legal_holds(archiving, month).values()) == {"OFF"}, 60, 0.2)

    table = f"audit.detached_{month:%Y_%m}"
    assert ask(archiving, "SELECT to_regclass(%s) IS NOT NULL", table)
    operator(archiving, "drop-archived", "--month", label)
    assert ask(archiving, "SELECT to_regclass(%s) IS NULL", table)
    assert "were not verified" in operator(archiving, "drop-archived", "--month", label, want=1), "twice"
    wanted = [("hold.place", "case-9"), ("hold.release", "case-9"), ("hold.place", "case-10"), ("hold.release", "case-10"), ("archive.drop", label)]
    e2e.wait_for("all of it on the record", lambda: words_on_record(archiving)[before:] == wanted, 30, 0.2)
    export = archiving.call("GET", "/api/v1/audit/export", **AUDITOR)
    assert export.status_code == 200 and event.encode() in export.content.replace(b"-", b"")
