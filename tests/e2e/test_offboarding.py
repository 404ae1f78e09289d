"""The end of a tenant, as its people and the operator do it with cordon-offboard; and a key that is only disabled."""
import contextlib
import os
import subprocess
import uuid

import boto3
import botocore.exceptions
import pytest
import requests

from conftest import ROOT, STATE, wait_for
from test_erasure import Attacker, Backup, folder, needs_root       # noqa: F401 (folder is a fixture)

PROGRAM = ROOT / ".cordon/build/release/services/offboard/cordon-offboard"
DAY_S = 86400
PLATFORM = {"tenant": None, "role": "platform_admin"}


def offboard(stack, *words, identity="operator", database=None):
    cloud, made = stack.info["cloud"], STATE / "secrets/.made"
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, env={
        "PATH": os.environ["PATH"], "ENVIRONMENT": "development", "DATABASE_URL": database or stack.info["postgres"]["admin_url"],
        "AWS_REGION": cloud["region"], "AWS_ENDPOINT_URL_KMS": cloud["url"], "AWS_ENDPOINT_URL_STS": cloud["url"],
        "AWS_ACCESS_KEY_ID": (made / f"aws-{identity}.id").read_text(), "AWS_SECRET_ACCESS_KEY": (made / f"aws-{identity}.secret").read_text()})


def rows(stack, sql, *args):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchall()


def kms(stack):
    cloud = stack.info["cloud"]
    return boto3.client("kms", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=cloud["access_key_id"],
                        aws_secret_access_key=cloud["secret_access_key"])


def later(stack, seconds):
    """KMS deletes what is due so much later. Only the stand-in can be told so, by loopback."""
    for ahead in (seconds, 0):
        requests.post(f"{stack.info['cloud']['url']}/_control", json={"clock_ahead_s": ahead}, timeout=10).raise_for_status()


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
    refused(offboard(stack, "schedule", tenant.slug), "two different people")
    assert stack.call("POST", f"/api/v1/tenants/{tenant.id}/offboarding", role="admin", **tenant.who).status_code == 403, "the tenant's own admin"
    for _ in range(2):
        assert tenant.approve("first").json()["approvals"] == 1, "one person counts once"
    refused(offboard(stack, "schedule", tenant.slug), "two different people")
    assert tenant.approve("second").json()["approvals"] == 2

    hold = stack.call("POST", "/api/v1/holds", role="admin", json={"document_id": document, "reason": "litigation"}, **tenant.who)
    refused(offboard(stack, "schedule", tenant.slug), "legal holds")
    assert stack.call("DELETE", f"/api/v1/holds/{hold.json()['hold_id']}", role="admin", **tenant.who).status_code == 204

    for identity in ("auth", "ingest-worker", "query"):         # each has another identity, and no right to it either
        refused(offboard(stack, "schedule", tenant.slug, identity=identity), "operator")
    refused(offboard(stack, "schedule", tenant.slug, database=stack.secret("auth", "DATABASE_URL")), "42501")
    rows_before = rows(stack, "SELECT state FROM auth.offboardings WHERE tenant_id = %s", tenant.id)
    assert rows_before == [("requested",)] and tenant.key_state()["KeyState"] == "Enabled", "nothing of that had an effect"
    assert stack.call("GET", "/api/v1/documents", **tenant.who).status_code == 200


def test_approvals_that_are_older_than_the_window_do_not_count(stack, tenant):
    for user in ("first", "second"):
        assert tenant.approve(user).status_code == 200
    rows(stack, "UPDATE auth.offboarding_approvals SET approved_at = now() - interval '31 days' WHERE tenant_id = %s AND user_id = "
         "(SELECT min(user_id::text)::uuid FROM auth.offboarding_approvals WHERE tenant_id = %s) RETURNING 1", tenant.id, tenant.id)
    refused(offboard(stack, "schedule", tenant.slug), "two different people")


def test_within_the_window_an_end_is_taken_back(stack, tenant):
    body = b"Kept after all.\n"
    document = stack.ingest(body, **tenant.who)["id"]
    for user in ("first", "second"):
        assert tenant.approve(user).status_code == 200
    for _ in range(2):                                          # again after any failure
        done = offboard(stack, "schedule", tenant.slug)
        assert done.returncode == 0, done.stderr
    key = tenant.key_state()
    assert key["KeyState"] == "PendingDeletion"
    window = key["DeletionDate"].timestamp() - rows(stack, "SELECT extract(epoch FROM now())::float8")[0][0]
    assert 29 * DAY_S < window <= 30 * DAY_S + 60
    assert abs(rows(stack, "SELECT extract(epoch FROM delete_at)::float8 FROM auth.offboardings WHERE tenant_id = %s", tenant.id)[0][0]
               - key["DeletionDate"].timestamp()) < 600
    wait_for("the tenant is suspended", lambda: stack.call("GET", "/api/v1/documents", **tenant.who).status_code in (401, 403), 20, 0.3)
    later(stack, 29 * DAY_S)
    assert tenant.key_state()["KeyState"] == "PendingDeletion", "a day too early"
    done = offboard(stack, "cancel", tenant.slug)
    assert done.returncode == 0, done.stderr
    refused(offboard(stack, "schedule", tenant.slug), "two different people")       # it wants their word again
    refused(offboard(stack, "cancel", tenant.slug), "23503")
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
            return attacker.read(tenant.id, document, version, wrapped, keys, fields)
        assert any(canary in text for text in read()), "the attack works"
        for user in ("first", "second"):
            assert tenant.approve(user).status_code == 200
        done = offboard(stack, "schedule", tenant.slug)
        assert done.returncode == 0, done.stderr
        with pytest.raises(botocore.exceptions.ClientError) as closed:
            read()
        assert closed.value.response["Error"]["Code"] == "KMSInvalidStateException", "at once, and for the 30 days"
        later(stack, 31 * DAY_S)
        for attempt in (read, tenant.key_state, lambda: kms(stack).cancel_key_deletion(KeyId=tenant.key)):
            with pytest.raises(botocore.exceptions.ClientError) as gone:
                attempt()
            assert gone.value.response["Error"]["Code"] in ("NotFoundException", "InvalidCiphertextException"), "for good"
    refused(offboard(stack, "cancel", tenant.slug), "")
    assert rows(stack, "SELECT status FROM auth.tenants WHERE id = %s", tenant.id) == [("suspended",)]
    wait_for("it is on the record", lambda: tenant.states()[:5] == ["requested", "approve", "approve", "intended", "scheduled"], 20, 0.3)


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
