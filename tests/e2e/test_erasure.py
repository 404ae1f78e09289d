"""Erasure proven by search: with a base backup and all WAL of the time before it, every right in the database, and an
AWS identity that may do anything in S3 and KMS, the text comes back before the erasure and does not come back after it.
The attack is written from the documents of the format alone and uses nothing of Cordon."""
import contextlib
import hashlib
import hmac
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid

import boto3
import botocore.exceptions
import psycopg2
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from conftest import ROOT, STATE, wait_for

PG = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
SHARES, ORIGINALS = "cordon-shares", "cordon-documents"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a restored server runs as another user")


# ---- the format, from docs/adr/0023 and common/crypto/aead.h ----

def aad(purpose, *parts):
    packed = struct.pack(">BI", 1, len(purpose)) + purpose.encode()
    for part in parts:
        data = part.bytes if isinstance(part, uuid.UUID) else struct.pack(">Q", part)
        packed += struct.pack(">BI", 2 if isinstance(part, uuid.UUID) else 3, len(data)) + data
    return b"\x01" + packed


def unseal(key, blob, bound):
    try:
        return AESGCM(key).decrypt(blob[1:13], blob[13:], bound)
    except InvalidTag:
        return None


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


class Attacker:
    """Who has a copy of the database, and may do anything in S3 and KMS."""

    def __init__(self, stack, url):
        cloud = stack.info["cloud"]
        self.clients = {service: boto3.client(service, endpoint_url=cloud["url"], region_name=cloud["region"],
                        aws_access_key_id=cloud["access_key_id"], aws_secret_access_key=cloud["secret_access_key"]) for service in ("s3", "kms")}
        self.db = psycopg2.connect(url)
        self.db.autocommit = True

    def close(self):
        self.db.close()

    def rows(self, sql, *args):
        with self.db.cursor() as cursor:
            cursor.execute(sql, args)
            return cursor.fetchall()

    def shares(self, tenant):
        """Every share of the tenant that the store still gives, by any version."""
        found = []
        for entry in self.clients["s3"].list_object_versions(Bucket=SHARES, Prefix=f"tenants/{tenant}/").get("Versions", []):
            body = self.clients["s3"].get_object(Bucket=SHARES, Key=entry["Key"], **(
                {"VersionId": entry["VersionId"]} if entry["VersionId"] != "null" else {}))["Body"].read()
            found.append(body[1:])
        return found

    def tenant_keys(self, tenant):
        keys = {}
        for kind, version, blob in self.rows("SELECT kind, version, blob FROM keys.tenant_keys WHERE tenant_id = %s", tenant):
            keys[kind, version] = self.clients["kms"].decrypt(CiphertextBlob=bytes(blob), EncryptionContext={
                "tenant_id": tenant, "purpose": kind})["Plaintext"]
        return keys

    def roots(self, tenant, owner, version, wrapped, keys, shares):
        """Everything that could be the key: what the database holds, alone and with each share that there is."""
        tenant, owner, wrapped = uuid.UUID(tenant), uuid.UUID(owner), bytes(wrapped)
        two = wrapped[0] == 2
        purpose = "cordon document key share v1" if two else "cordon document key v1"
        half = unseal(keys["data", version], wrapped[1:] if two else wrapped, aad(purpose, tenant, owner, version))
        assert half, "the tenant key opens what the database holds"
        return [half] + [xor(half, share) for share in shares]

    def read(self, tenant, owner, version, wrapped, keys, shares, fields):
        """Texts of fields [(kind, row, sealed)] under the owner's key."""
        texts = []
        for root in self.roots(tenant, owner, version, wrapped, keys, shares):
            key = hmac.new(root, b"cordon fields v1", hashlib.sha256).digest()
            for kind, row, sealed in fields:
                text = unseal(key, bytes(sealed), aad("cordon document field v1", uuid.UUID(tenant), uuid.UUID(owner), kind, uuid.UUID(row)))
                if text is not None:
                    texts.append(text.decode(errors="replace"))
        return texts

    def everything(self):
        """Every text of documents, conversations and their answers that opens, in all tenants."""
        texts = []
        for (tenant,) in self.rows("SELECT id::text FROM auth.tenants WHERE kms_key_id IS NOT NULL"):
            try:
                keys = self.tenant_keys(tenant)
            except botocore.exceptions.ClientError:
                continue        # a tenant that has ended (test_offboarding.py)
            shares = self.shares(tenant)
            for document, version, wrapped in self.rows(
                    "SELECT document_id::text, version, wrapped FROM keys.document_keys WHERE tenant_id = %s", tenant):
                fields = [(1, row, sealed) for row, sealed in self.rows(
                    "SELECT id::text, text_enc FROM app.chunks WHERE tenant_id = %s AND document_id = %s", tenant, document)]
                fields += [(2, document, sealed) for (sealed,) in self.rows(
                    "SELECT name_enc FROM app.documents WHERE tenant_id = %s AND id = %s AND name_enc IS NOT NULL", tenant, document)]
                texts += self.read(tenant, document, version, wrapped, keys, shares, fields)
            for conversation, version, wrapped in self.rows(
                    "SELECT conversation_id::text, version, wrapped FROM keys.conversation_keys WHERE tenant_id = %s", tenant):
                fields = [field for row, question, answer in self.rows(
                    "SELECT id::text, question_enc, answer_enc FROM app.answers WHERE tenant_id = %s AND conversation_id = %s", tenant, conversation)
                    for field in ((5, row, question), (6, row, answer))]
                texts += self.read(tenant, conversation, version, wrapped, keys, shares, fields)
        return texts


# ---- a backup, as an operator takes it ----

def as_postgres(*words, **more):
    return ["setpriv", "--reuid=cordon-postgres", "--regid=cordon-postgres", "--clear-groups", *map(str, words)]


class Backup:
    """A base backup, and the WAL from before it until stop()."""

    def __init__(self, stack, folder):
        self.stack, self.folder = stack, folder
        self.wal, self.base = folder / "wal", folder / "base"
        self.wal.mkdir()
        self.url = stack.info["postgres"]["admin_url"].replace("/cordon?", "/postgres?")
        self.receiver = subprocess.Popen([PG / "pg_receivewal", "-d", self.url, "-D", self.wal, "--no-loop"], stderr=subprocess.DEVNULL)
        subprocess.run([PG / "pg_basebackup", "-d", self.url, "-D", self.base, "-X", "none", "-c", "fast"], check=True, capture_output=True)

    def stop(self):
        with self.stack.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT pg_walfile_name(pg_current_wal_lsn())")
            last = cursor.fetchone()[0]
            cursor.execute("SELECT pg_switch_wal()")
        wait_for("the WAL archive", lambda: (self.wal / last).exists(), 30)
        self.receiver.terminate()
        self.receiver.wait()

    @contextlib.contextmanager
    def restored(self):
        """A server from the copy: url of its superuser, whose password is asked of nobody."""
        home = pathlib.Path(tempfile.mkdtemp(prefix="restored-", dir=self.folder))
        data = home / "data"
        shutil.copytree(self.base, data)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        (data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
        (data / "recovery.signal").touch()
        (data / "postgresql.conf").write_text(
            f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 120\n"
            f"restore_command = 'cp {self.wal}/%f %p'\nrecovery_target_timeline = 'current'\nfsync = off\n")
        subprocess.run(["chown", "-R", "cordon-postgres:cordon-postgres", str(home), str(self.wal)], check=True)
        subprocess.run(["chmod", "700", str(data)], check=True)
        subprocess.run(["chmod", "755", str(self.folder), str(home)], check=True)
        server = subprocess.Popen(as_postgres(PG / "postgres", "-D", data), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        url = f"postgresql://cordon_admin@127.0.0.1:{port}/cordon"

        def is_open():
            try:
                with contextlib.closing(psycopg2.connect(url)) as db, db.cursor() as cursor:
                    cursor.execute("SELECT NOT pg_is_in_recovery()")
                    return cursor.fetchone()[0]
            except psycopg2.OperationalError:
                assert server.poll() is None, "the restored server stopped"
                return False
        try:
            wait_for("the restored server", is_open, 60, 0.2)
            yield url
        finally:
            server.send_signal(signal.SIGINT)       # whoever is still connected is not waited for
            server.wait()


@pytest.fixture
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="cordon-backup-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


# ---- what people do ----

def erase(stack, **body):
    answer = stack.call("POST", "/api/v1/erasures", role="admin", json={"reason": "patient_request", **body})
    assert answer.status_code == 202, answer.text
    erasure = answer.json()["erasure_id"]

    def done():
        found = stack.call("GET", f"/api/v1/erasures/{erasure}", role="admin").json()["erasure"]
        return found if found["state"] == "done" else None
    return erasure, wait_for("the erasure is done", done, 60, 0.2)


def certificate_of(stack, erasure):
    def signed():
        answer = stack.call("GET", f"/api/v1/erasures/{erasure}/certificate", role="admin")
        assert answer.status_code == 200, answer.text
        return answer if answer.json()["state"] == "signed" else None
    return wait_for("the certificate is signed", signed, 60, 0.5)


@needs_root
def test_what_is_erased_does_not_come_back_from_a_backup_with_every_key_and_right(stack, folder):
    canary, keeper = f"zyx{secrets.token_hex(6)}", f"wvu{secrets.token_hex(6)}"
    backup = Backup(stack, folder)
    document = stack.ingest(f"The code word of this visit is {canary}. The patient slept well.\n".encode(), name=f"{canary}.txt")["id"]
    stack.ingest(f"Another visit; its code word is {keeper}.\n".encode())
    asked = stack.call("POST", "/api/v1/query", json={"question": f"What is the code word of the visit, {canary} or not?",
                       "filter": {"document_ids": [document]}})
    assert asked.status_code == 200, asked.text
    backup.stop()

    with backup.restored() as url:
        before = Attacker(stack, url).everything()
        assert any(canary in text for text in before) and any(keeper in text for text in before), "the attack works"
        assert sum(canary in text for text in before) >= 3, "chunk, file name and question"

        erasure, state = erase(stack, document_ids=[document])
        assert state["items_done"] == state["items_total"] >= 2, state      # the document and the conversation

        after = Attacker(stack, url).everything()
        assert not any(canary in text for text in after), "erased, and read again"
        assert any(keeper in text for text in after), "the attack still works on what was not erased"

    # Nothing of it is where it was, in any version, nor in the running database.
    attacker = Attacker(stack, stack.info["postgres"]["admin_url"])
    for bucket in (SHARES, ORIGINALS):
        listed = attacker.clients["s3"].list_object_versions(Bucket=bucket)
        assert not [e for e in listed.get("Versions", []) + listed.get("DeleteMarkers", []) if document in e["Key"]]
    assert attacker.rows("SELECT count(*) FROM app.documents WHERE id = %s", document) == [(0,)]
    assert stack.call("GET", f"/api/v1/documents/{document}").status_code == 404

    # The certificate says so, and the log says that the certificate is this one.
    answer = certificate_of(stack, erasure)
    paper = answer.json()
    assert document in paper["certificate"] and '"left"' in paper["certificate"] and "until" in paper["certificate"]
    assert hashlib.sha256(paper["certificate"].encode()).hexdigest() in paper["event"]
    verify = [ROOT / ".cordon/build/release/services/verify/cordon-verify", "record", "--key", (STATE / "secrets/.made/checkpoint.verifier").read_text().strip()]
    (folder / "certificate").write_bytes(answer.content)
    done = subprocess.run([*verify, folder / "certificate"], capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "changed").write_bytes(answer.content.replace(b"patient_request", b"court_order", 1))
    assert subprocess.run([*verify, folder / "changed"], capture_output=True).returncode == 1, "a certificate that says something else"


def test_conversations_end_with_their_document_or_their_owner_and_leave_no_share(stack):
    attacker = Attacker(stack, stack.info["postgres"]["admin_url"])
    document = stack.ingest(b"The code word of this visit is quince.\n")["id"]

    def asked():
        answer = stack.call("POST", "/api/v1/query", json={"question": "What is the code word of this visit?", "filter": {"document_ids": [document]}})
        assert answer.status_code == 200, answer.text
        return answer.json()["conversation_id"], answer.json()["answer_id"]

    def share_is_gone(conversation):
        listed = attacker.clients["s3"].list_object_versions(Bucket=SHARES)
        return not [e for e in listed.get("Versions", []) + listed.get("DeleteMarkers", []) if conversation in e["Key"]]
    (own, _), (other, answer_id) = asked(), asked()
    assert not share_is_gone(own) and not share_is_gone(other)
    assert stack.call("GET", f"/api/v1/query/{answer_id}").status_code == 200
    assert stack.call("DELETE", f"/api/v1/conversations/{own}").status_code == 204
    wait_for("its share is destroyed", lambda: share_is_gone(own), 30, 0.2)
    assert not share_is_gone(other) and stack.call("GET", f"/api/v1/conversations/{other}").status_code == 200
    assert stack.call("DELETE", f"/api/v1/documents/{document}").status_code == 204
    for path in (f"/api/v1/conversations/{other}", f"/api/v1/query/{answer_id}"):
        assert stack.call("GET", path).status_code == 404, "at once"
    wait_for("its share is destroyed", lambda: share_is_gone(other), 30, 0.2)

    def reasons():
        listed = stack.call("GET", "/api/v1/erasures", role="admin").json()["erasures"]
        return [(e["reason"], e["items_total"]) for e in listed[:2] if e["state"] == "done"]
    wait_for("both are erasures", lambda: sorted(reasons()) == [("conversation_deleted", 1), ("document_deleted", 1)], 30, 0.3)


def test_all_that_is_about_a_patient_goes_at_once_and_nothing_of_another(stack):
    attacker = Attacker(stack, stack.info["postgres"]["admin_url"])
    word = secrets.token_hex(6)

    def of(mrn, text):
        form = {"mrn": (None, mrn), "file": ("visit.txt", text.encode(), "text/plain")}
        answer = stack.call("POST", "/api/v1/documents", role="case_worker", files=form)
        assert answer.status_code == 202, answer.text
        return stack.wait_ready(answer.json()["document_id"])
    visits = [of(f"MRN-{word}", f"Visit {n}: the code word is medlar{word}.\n") for n in range(2)]
    others = of(f"MRN-other-{word}", f"Another patient; the code word is rowan{word}.\n")
    documents, subject = [v["id"] for v in visits], visits[0]["subject_id"]
    assert visits[1]["subject_id"] == subject != others["subject_id"]
    asked = stack.call("POST", "/api/v1/query", json={"question": "What is the code word of the visit?", "filter": {"document_ids": documents[:1]}})
    assert asked.status_code == 200, asked.text

    held = stack.call("POST", "/api/v1/holds", role="admin", json={"subject_id": subject, "reason": "litigation"})
    assert held.status_code == 201, held.text
    refused = stack.call("POST", "/api/v1/erasures", role="admin", json={"subject_id": subject, "reason": "patient_request"})
    assert (refused.status_code, refused.json()["code"]) == (409, "DOC_010"), refused.text
    assert stack.call("DELETE", f"/api/v1/holds/{held.json()['hold_id']}", role="admin").status_code == 204

    erasure, state = erase(stack, subject_id=subject)
    assert state["items_done"] == state["items_total"] == 3, "two documents and a conversation"
    for path in (*(f"documents/{d}" for d in documents), f"conversations/{asked.json()['conversation_id']}", f"query/{asked.json()['answer_id']}"):
        assert stack.call("GET", f"/api/v1/{path}").status_code == 404, path
    found, stays = (stack.call("POST", "/api/v1/subjects/lookup", json={"mrn": mrn}) for mrn in (f"MRN-{word}", f"MRN-other-{word}"))
    assert found.status_code == 404 and stays.json()["subject_id"] == others["subject_id"]
    assert attacker.rows("SELECT (SELECT count(*) FROM app.subjects WHERE id = %s), (SELECT count(*) FROM app.documents WHERE subject_id = %s)",
                         subject, subject) == [(0, 0)]
    for bucket in (SHARES, ORIGINALS):
        listed = attacker.clients["s3"].list_object_versions(Bucket=bucket)
        assert not [e for e in listed.get("Versions", []) + listed.get("DeleteMarkers", []) if any(d in e["Key"] for d in documents)]
    paper = certificate_of(stack, erasure).json()["certificate"]
    assert all(d in paper for d in documents) and others["id"] not in paper
    assert stack.call("GET", f"/api/v1/documents/{others['id']}/content").content.startswith(b"Another patient")
    assert of(f"MRN-{word}", "Back again after years.\n")["subject_id"] != subject, "an id that was erased is never used again"


def test_an_erasure_is_refused_while_a_hold_stands(stack):
    document = stack.ingest(b"A note that a court wants to see.\n")["id"]
    placed = stack.call("POST", "/api/v1/holds", role="admin", json={"document_id": document, "reason": "litigation", "reference": "24-1107"})
    assert placed.status_code == 201, placed.text
    for answer in (stack.call("DELETE", f"/api/v1/documents/{document}"),
                   stack.call("POST", "/api/v1/erasures", role="admin", json={"document_ids": [document], "reason": "wrong_upload"})):
        assert (answer.status_code, answer.json()["code"]) == (409, "DOC_010"), answer.text
    assert stack.call("POST", "/api/v1/holds", json={"document_id": document, "reason": "litigation"}).status_code == 403
    held = stack.call("GET", "/api/v1/holds", role="admin").json()["holds"]
    assert held[0]["id"] == placed.json()["hold_id"] and held[0]["reference"] == "24-1107"
    assert stack.call("DELETE", f"/api/v1/holds/{placed.json()['hold_id']}", role="admin").status_code == 204
    erase(stack, document_ids=[document])
    assert stack.call("GET", f"/api/v1/documents/{document}").status_code == 404


def test_a_rotated_key_seals_from_now_on_and_the_old_one_is_forgotten(stack):
    document = stack.ingest(b"Sealed before the rotation.\n")["id"]
    answer = stack.call("POST", "/api/v1/keys/rotations", role="admin")
    assert answer.status_code == 202, answer.text
    version = answer.json()["version"]
    job = wait_for("the rotation is done", lambda: (j := stack.call("GET", f"/api/v1/jobs/{answer.json()['job_id']}").json()["job"])["state"]
                   == "succeeded" and j, 60, 0.2)
    assert job["chunks_done"] == job["chunks_total"] > 0
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT array_agg(DISTINCT k.version) FROM keys.document_keys k JOIN auth.tenants t ON t.id = k.tenant_id WHERE t.slug = 'demo'")
        assert cursor.fetchone()[0] == [version]
        cursor.execute("SELECT array_agg(k.version) FROM keys.tenant_keys k JOIN auth.tenants t ON t.id = k.tenant_id WHERE t.slug = 'demo' AND kind = 'data'")
        assert cursor.fetchone()[0] == [version]
    assert stack.call("GET", f"/api/v1/documents/{document}/content").content == b"Sealed before the rotation.\n"


def test_no_process_may_replace_a_share_and_only_ingest_worker_destroys_them(stack):
    """As the sessions that the processes work with: roles of one tenant."""
    document = stack.ingest(b"A share of its own.\n")["id"]
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT id::text FROM auth.tenants WHERE slug = 'demo'")
        tenant = cursor.fetchone()[0]
    cloud = stack.info["cloud"]
    for process in ("ingest-worker", "query"):
        folder = STATE / "secrets" / process
        own = {f.name: f.read_text().rstrip("\n") for f in folder.iterdir() if f.is_file()}
        sts = boto3.client("sts", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=own["AWS_ACCESS_KEY_ID"],
                           aws_secret_access_key=own["AWS_SECRET_ACCESS_KEY"])
        role = sts.assume_role(RoleArn=own["CORDON_AWS_TENANT_ROLE_ARN"], RoleSessionName="test", Tags=[{"Key": "tenant_id", "Value": tenant}])["Credentials"]
        s3 = boto3.client("s3", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=role["AccessKeyId"],
                          aws_secret_access_key=role["SecretAccessKey"], aws_session_token=role["SessionToken"])
        key = f"tenants/{tenant}/{document}"
        assert len(s3.get_object(Bucket=SHARES, Key=key)["Body"].read()) == 33
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            s3.put_object(Bucket=SHARES, Key=key, Body=b"x" * 33)
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
        if process == "query":
            with pytest.raises(botocore.exceptions.ClientError) as refused:
                s3.delete_object(Bucket=SHARES, Key=key)
            assert refused.value.response["Error"]["Code"] == "AccessDenied"
