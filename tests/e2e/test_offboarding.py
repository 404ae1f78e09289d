"""The end of a tenant, as its people and the operator do it with cordon-offboard; and a key that is only disabled."""
import contextlib
import json
import subprocess
import uuid

import boto3
import botocore.exceptions
import pytest

from conftest import ROOT, STATE, wait_for
from test_erasure import Attacker, Backup, folder, needs_root       # noqa: F401 (folder is a fixture)

DAY_S = 86400
PLATFORM = {"tenant": None, "role": "platform_admin"}


def rows(stack, sql, *args):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchall()


def kms(stack):
    return boto3.client("kms", **stack.at_cloud())


class Tenant:
    """One that nobody else plays with."""

    def __init__(self, stack):
        self.stack, self.slug = stack, f"t{uuid.uuid4().hex[:12]}"
        stack.cordon("tenants", "create", self.slug, "A house that closes")
        self.id, self.key = rows(stack, "SELECT id::text, kms_key_id FROM auth.tenants WHERE slug = %s", self.slug)[0]
        self.key = self.key.rsplit("/", 1)[-1]       # the stand-in switches keys by id only
        self.who = {"tenant": self.slug}

    def approve(self, user):
        return self.stack.call("POST", f"/api/v1/tenants/{self.id}/offboarding", user=user, **PLATFORM)

    def key_state(self):
        return kms(self.stack).describe_key(KeyId=self.key)["KeyMetadata"]

    def states(self):
        """What the log says of the offboarding, once it is drained."""
        return [state for (state,) in rows(self.stack, "SELECT coalesce(convert_from(event, 'UTF8')::jsonb #>> '{detail,state}', 'approve') FROM audit.audit_logs "
                                           "WHERE tenant_id = %s AND action LIKE 'tenant.offboard%%' ORDER BY seq", self.id)]


@pytest.fixture
def tenant(stack):
    return Tenant(stack)


def refused(done, what):
    assert done.returncode == 1 and what in done.stderr, done.stdout + done.stderr


def test_a_tenant_ends_when_two_people_agree_and_an_operator_acts_and_nobody_else(stack, tenant):
    document = stack.ingest(b"What the court wants to see.\n", **tenant.who)["id"]
    refused(stack.offboard("schedule", tenant.slug), "two different people")
    assert stack.call("POST", f"/api/v1/tenants/{tenant.id}/offboarding", role="admin", **tenant.who).status_code == 403, "the tenant's own admin"
    for _ in range(2):
        assert tenant.approve("first").json()["approvals"] == 1, "one person counts once"
    refused(stack.offboard("schedule", tenant.slug), "two different people")
    assert tenant.approve("second").json()["approvals"] == 2

    hold = stack.call("POST", "/api/v1/holds", role="admin", json={"document_id": document, "reason": "litigation"}, **tenant.who)
    refused(stack.offboard("schedule", tenant.slug), "legal holds")
    assert stack.call("DELETE", f"/api/v1/holds/{hold.json()['hold_id']}", role="admin", **tenant.who).status_code == 204

    for identity in ("auth", "ingest-worker", "query"):         # each has another identity, and no right to it either
        refused(stack.offboard("schedule", tenant.slug, identity=identity), "operator")
    refused(stack.offboard("schedule", tenant.slug, database=stack.secret("auth", "DATABASE_URL")), "42501")
    rows_before = rows(stack, "SELECT state FROM auth.offboardings WHERE tenant_id = %s", tenant.id)
    assert rows_before == [("requested",)] and tenant.key_state()["KeyState"] == "Enabled", "nothing of that had an effect"
    assert stack.call("GET", "/api/v1/documents", **tenant.who).status_code == 200


def test_approvals_that_are_older_than_the_window_do_not_count(stack, tenant):
    for user in ("first", "second"):
        assert tenant.approve(user).status_code == 200
    rows(stack, "UPDATE auth.offboarding_approvals SET approved_at = now() - interval '31 days' WHERE tenant_id = %s AND user_id = "
         "(SELECT min(user_id::text)::uuid FROM auth.offboarding_approvals WHERE tenant_id = %s) RETURNING 1", tenant.id, tenant.id)
    refused(stack.offboard("schedule", tenant.slug), "two different people")


def test_within_the_window_an_end_is_taken_back(stack, tenant):
    body = b"Kept after all.\n"
    document = stack.ingest(body, **tenant.who)["id"]
    for user in ("first", "second"):
        assert tenant.approve(user).status_code == 200
    for _ in range(2):                                          # again after any failure
        done = stack.offboard("schedule", tenant.slug)
        assert done.returncode == 0, done.stderr
    key = tenant.key_state()
    assert key["KeyState"] == "PendingDeletion"
    window = key["DeletionDate"].timestamp() - rows(stack, "SELECT extract(epoch FROM now())::float8")[0][0]
    assert 29 * DAY_S < window <= 30 * DAY_S + 60
    assert abs(rows(stack, "SELECT extract(epoch FROM delete_at)::float8 FROM auth.offboardings WHERE tenant_id = %s", tenant.id)[0][0]
               - key["DeletionDate"].timestamp()) < 600
    wait_for("the tenant is suspended", lambda: stack.call("GET", "/api/v1/documents", **tenant.who).status_code in (401, 403), 20, 0.3)
    stack.later(29 * DAY_S)
    assert tenant.key_state()["KeyState"] == "PendingDeletion", "a day too early"
    done = stack.offboard("cancel", tenant.slug)
    assert done.returncode == 0, done.stderr
    refused(stack.offboard("schedule", tenant.slug), "two different people")       # it wants their word again
    refused(stack.offboard("cancel", tenant.slug), "23503")
    assert tenant.key_state()["KeyState"] == "Enabled"
    assert stack.call("PATCH", f"/api/v1/tenants/{tenant.id}", json={"status": "active"}, **PLATFORM).status_code == 200
    stack.tokens.clear()
    read = wait_for("it works again", lambda: (a := stack.call("GET", f"/api/v1/documents/{document}/content", **tenant.who)).status_code == 200 and a, 30, 0.5)
    assert read.content == body
    expected = ["requested", "approve", "approve", "intended", "scheduled", "cancel_intended", "cancelled"]
    wait_for("it is on the record", lambda: tenant.states() == expected, 20, 0.3)


@needs_root
def test_when_the_window_is_over_nothing_of_the_tenant_opens_in_any_backup(stack, tenant, folder):     # noqa: F811
    canary = f"zyx{uuid.uuid4().hex[:12]}"
    document = stack.ingest(f"The code word of this house is {canary}.\n".encode(), name=f"{canary}.txt", **tenant.who)["id"]
    backup = Backup(stack, folder)
    backup.stop()
    with backup.restored() as url:
        def read():
            with contextlib.closing(Attacker(stack, url)) as attacker:
                return texts(attacker)

        def texts(attacker):
            keys = attacker.tenant_keys(tenant.id)
            (version, wrapped), = attacker.rows("SELECT version, wrapped FROM keys.document_keys WHERE document_id = %s", document)
            fields = [(1, row, sealed) for row, sealed in attacker.rows("SELECT id::text, text_enc FROM app.chunks WHERE document_id = %s", document)]
            return attacker.read(tenant.id, document, version, wrapped, keys, attacker.shares(tenant.id), fields)
        assert any(canary in text for text in read()), "the attack works"
        for user in ("first", "second"):
            assert tenant.approve(user).status_code == 200
        done = stack.offboard("schedule", tenant.slug)
        assert done.returncode == 0, done.stderr
        with pytest.raises(botocore.exceptions.ClientError) as closed:
            read()
        assert closed.value.response["Error"]["Code"] == "KMSInvalidStateException", "at once, and for the 30 days"
        stack.later(31 * DAY_S)
        for attempt in (read, tenant.key_state, lambda: kms(stack).cancel_key_deletion(KeyId=tenant.key)):
            with pytest.raises(botocore.exceptions.ClientError) as gone:
                attempt()
            assert gone.value.response["Error"]["Code"] in ("NotFoundException", "InvalidCiphertextException"), "for good"
    wait_for("it is on the record", lambda: tenant.states() == ["requested", "approve", "approve", "intended", "scheduled"], 20, 0.3)


def test_a_tenant_is_destroyed_when_kms_has_deleted_its_key_and_the_certificate_says_what_is_left(stack, tenant, tmp_path):
    path = f"/api/v1/tenants/{tenant.id}/offboarding"
    assert stack.call("GET", path, **PLATFORM).status_code == 404, "nobody has asked"
    document = stack.ingest(b"The code word of this house is quince.\n", **tenant.who)["id"]
    asked = stack.call("POST", "/api/v1/query", json={"question": "What is the code word of this house?"}, **tenant.who)
    assert asked.status_code == 200, asked.text
    for user in ("first", "second"):
        assert tenant.approve(user).status_code == 200
    assert stack.offboard("schedule", tenant.slug).returncode == 0
    told = stack.call("GET", path, **PLATFORM).json()
    assert (told["stage"], told["approvals"], told["certificate"], told["state"]) == ("scheduled", 2, "", "pending") and "destroyed_at" not in told
    assert stack.call("GET", path, role="admin").status_code == 403, "a tenant's admin is nobody of the platform"
    refused(stack.offboard("finish", tenant.slug), "not due")
    rows(stack, "UPDATE auth.offboardings SET delete_at = now() WHERE tenant_id = %s RETURNING 1", tenant.id)      # the database's clock is not the stand-in's
    refused(stack.offboard("finish", tenant.slug), "KMS still has the key")
    stack.later(31 * DAY_S)
    refused(stack.offboard("finish", tenant.slug, identity="ingest-worker"), "operator")
    for _ in range(2):                                          # again after any failure
        done = stack.offboard("finish", tenant.slug)
        assert done.returncode == 0, done.stderr
    rows(stack, "UPDATE jobs.schedules SET next_run_at = now() WHERE name = 'endings' RETURNING 1")

    def signed():
        told = stack.call("GET", path, **PLATFORM)
        assert told.status_code == 200, told.text
        return told if told.json()["stage"] == "destroyed" and told.json()["state"] == "signed" else None
    answer = wait_for("it is destroyed, and the certificate signed", signed, 120, 0.5)
    shown = stack.offboard("show", tenant.slug)
    assert "tenant destroyed, end destroyed" in shown.stdout and answer.json()["certificate"] in shown.stdout, shown.stdout + shown.stderr

    paper = json.loads(answer.json()["certificate"])
    assert paper["tenant"] == tenant.slug and tenant.key in paper["destroyed"]["kms_key"] and len(paper["approved_by"]) == 2
    counts = paper["destroyed"]
    assert (counts["key_shares"], counts["object_versions"], counts["rows"]["documents"], counts["rows"]["conversations"], counts["rows"]["answers"]) == (2, 1, 1, 1, 1)
    assert counts["rows"]["people"] >= 1 and {left["until"] for left in paper["left"]} and "quince" not in answer.text
    verify = [ROOT / ".cordon/build/release/services/verify/cordon-verify", "record", "--key", (STATE / "secrets/.made/checkpoint.verifier").read_text().strip()]
    (tmp_path / "certificate").write_bytes(answer.content)
    assert subprocess.run([*verify, tmp_path / "certificate"]).returncode == 0
    (tmp_path / "changed").write_bytes(answer.content.replace(b'key_shares\\": 2', b'key_shares\\": 1', 1))
    assert (tmp_path / "changed").read_bytes() != answer.content and subprocess.run([*verify, tmp_path / "changed"]).returncode == 1

    s3 = boto3.client("s3", **stack.at_cloud())
    for bucket in ("cordon-documents", "cordon-shares"):
        listed = s3.list_object_versions(Bucket=bucket, Prefix=f"tenants/{tenant.id}/")
        assert not listed.get("Versions") and not listed.get("DeleteMarkers"), bucket
    for table in ("app.documents", "app.chunks", "app.conversations", "app.answers", "app.subjects", "app.vector_sets", "keys.document_keys", "keys.tenant_keys", "jobs.jobs"):
        assert rows(stack, f"SELECT count(*) FROM {table} WHERE tenant_id = %s", tenant.id) == [(0,)], table
    assert rows(stack, "SELECT status FROM auth.tenants WHERE id = %s", tenant.id) == [("destroyed",)]
    refused(stack.offboard("cancel", tenant.slug), "23514")
    assert stack.call("PATCH", f"/api/v1/tenants/{tenant.id}", json={"status": "active"}, **PLATFORM).status_code == 409
    assert tenant.approve("third").status_code == 409
    assert tenant.states()[5:] == ["key_destroyed", "shares_destroyed", "objects_destroyed", "destroyed"], document


# ---- a key that is disabled ----

KEY_CACHE_MS = 1500


@pytest.fixture
def short_key_cache(stack):
    """Processes that forget tenant keys sooner than by default; nothing else about them is different."""
    files = [STATE / "secrets" / process / "CORDON_KEY_CACHE_MS" for process in ("query", "ingest-worker")]

    def restart():
        for file in files:
            stack.stop(file.parent.name)
            stack.start(file.parent.name)
    for file in files:
        file.write_text(str(KEY_CACHE_MS))
    restart()
    yield
    for file in files:
        file.unlink()
    restart()


def test_a_disabled_key_makes_a_tenants_data_unreadable_within_the_cache_time(stack, tenant, short_key_cache):
    body = b"The patient takes metformin twice a day.\n"
    document = stack.ingest(body, **tenant.who)["id"]
    ask = {"question": "Which drug does the patient take?"}
    calls = {
        "search": lambda: stack.call("POST", "/api/v1/search", json=ask, **tenant.who),
        "ask": lambda: stack.call("POST", "/api/v1/query", json=ask, **tenant.who),
        "download": lambda: stack.call("GET", f"/api/v1/documents/{document}/content", **tenant.who),
        "upload": lambda: stack.upload(b"Another note.\n", **tenant.who),
        "list": lambda: stack.call("GET", "/api/v1/documents", **tenant.who),
    }
    for name, call in calls.items():
        answer = call()
        assert answer.status_code in (200, 202), f"{name}: {answer.text}"
    kms(stack).disable_key(KeyId=tenant.key)
    for name, call in calls.items():        # each says it by itself, at the latest when the keys in the caches are too old
        def closed():
            answer = call()
            return [answer] if answer.status_code == 503 else None      # a refusal is false by itself
        answer, = wait_for(f"{name} is refused", closed, KEY_CACHE_MS / 1000 + 20, 0.2)
        assert answer.json()["code"] == "KMS_001" and body.decode().strip() not in answer.text, name
    others = stack.call("GET", "/api/v1/documents")
    assert others.status_code == 200, "another tenant notices nothing"
    kms(stack).enable_key(KeyId=tenant.key)
    read = wait_for("it opens again", lambda: (a := calls["download"]()).status_code == 200 and a, 20, 0.3)
    assert read.content == body
