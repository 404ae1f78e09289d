"""A database that was put back behind what was signed, as by a failover to a standby that was late or from a backup: its data folder
is copied, and later put in the place of the newer one. Nobody appends to it, so nothing is shown or changed, until an operator has
said so; that is on the record, and an outsider who kept a checkpoint sees what was lost. It takes a stack of its own: with --long."""
import contextlib
import json
import os
import pathlib
import subprocess

import boto3
import pytest

import detours

ROOT = detours.ROOT
HOME = ROOT / ".cordon" / "failover"
VERIFY = ROOT / ".cordon/build/release/services/verify/cordon-verify"

pytestmark = pytest.mark.skipif(not detours.IS_LONG, reason="a stack of its own: --long")


@pytest.fixture(scope="module")
def alone():
    e2e = detours.load_e2e(HOME)
    with e2e.running_stack() as stack:
        stack.wait_for = e2e.wait_for
        yield stack


def as_root(*command):
    subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *map(str, command)], check=True)


@contextlib.contextmanager
def database_stopped(stack):
    stack.cordon("stop", "postgres")
    yield HOME / "postgres"
    stack.cordon("start", "postgres")


def ingest(stack, text):
    """Once the processes have noticed that their database is back."""
    def taken():
        answer = stack.upload(text)
        return answer.status_code == 202 and answer
    answer = stack.wait_for("an upload is taken", taken, 60, 0.3)
    return stack.wait_ready(answer.json()["document_id"])["id"]


def auditor(stack, path):
    return stack.call("GET", f"/api/v1/audit/{path}", role="auditor")


def signed(stack, beyond):
    """A checkpoint of more events than that."""
    def look():
        answer = auditor(stack, "checkpoint")
        return answer.status_code == 200 and answer.json()["size"] > beyond and answer.json()
    return stack.wait_for("a checkpoint", look, 60, 0.3)


def said(stack, event):
    """The newest line of audit-writer's log about it."""
    lines = [json.loads(line) for line in open(stack.info["processes"]["audit-writer"]["log"]) if f'"{event}"' in line]
    return lines[-1] if lines else None


def metric(stack, name):
    lines = subprocess.run(["curl", "-s", stack.info["processes"]["audit-writer"]["metrics"] + "/metrics"], capture_output=True, text=True).stdout.splitlines()
    return [float(line.split()[1]) for line in lines if line.startswith(name + " ")]


def operator(stack, *words, want=0):
    env = {"DATABASE_URL": stack.info["postgres"]["admin_url"], "ENVIRONMENT": "development", "CORDON_MIGRATIONS": str(ROOT / "migrations")}
    done = subprocess.run([ROOT / ".cordon/build/release/services/migrate/cordon-migrate", *words], env=env, capture_output=True, text=True)
    assert done.returncode == want, (words, done.stdout, done.stderr)
    return done.stderr


def numbers_in_bucket(stack):
    cloud = stack.info["cloud"]
    s3 = boto3.client("s3", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=cloud["access_key_id"], aws_secret_access_key=cloud["secret_access_key"])
    return sorted(int(pathlib.PurePath(o["Key"]).stem) for o in s3.list_objects_v2(Bucket="cordon-anchor", Prefix="checkpoints/")["Contents"])


def test_a_database_that_was_put_back_waits_for_an_operator_s_word_and_goes_on(alone, tmp_path):
    key = subprocess.run(["cat", HOME / "secrets/.made/checkpoint.verifier"], capture_output=True, text=True, check=True).stdout.strip()
    kept = ingest(alone, b"A note of before.")
    early = signed(alone, 3)
    with database_stopped(alone) as data:
        as_root("cp", "-a", data, tmp_path / "backup")
    lost = ingest(alone, b"A note of afterwards, which the backup has not.")
    late = signed(alone, early["size"] + 3)
    anchored = numbers_in_bucket(alone)
    with database_stopped(alone) as data:
        as_root("rm", "-rf", data)
        as_root("cp", "-a", tmp_path / "backup", data)

    alone.wait_for("it is noticed", lambda: metric(alone, "cordon_audit_behind_anchor") == [1], 60, 0.2)
    for _ in range(2):
        refused = alone.call("GET", f"/api/v1/documents/{kept}")
        assert (refused.status_code, refused.json()["code"]) == (503, "AUDIT_002"), refused.text
        alone.cordon("restart", "audit-writer", check=False)     # which changes nothing: it is not ready
        alone.wait_for("it is noticed again", lambda: metric(alone, "cordon_audit_behind_anchor") == [1], 60, 0.2)
    number = said(alone, "audit_behind_anchor")["anchored"]
    assert number >= anchored[-1] and numbers_in_bucket(alone)[-1] == number, "and nothing was signed"
    assert "already" in operator(alone, "recover-audit", "--to", "1", "--reason", "restore-7", want=1)
    operator(alone, "recover-audit", "--to", str(number), "--reason", "restore-7")
    alone.wait_for("appended to again", lambda: alone.call("GET", f"/api/v1/documents/{kept}").status_code == 200, 60, 0.2)
    assert alone.call("GET", f"/api/v1/documents/{lost}").status_code == 404

    ingest(alone, b"A note of the time after it.")
    new = signed(alone, early["size"])
    alone.wait_for("numbered on", lambda: numbers_in_bucket(alone)[-1] > number, 60, 0.3)
    with alone.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT convert_from(event, 'UTF8')::jsonb -> 'detail' FROM audit.audit_logs WHERE action = 'audit.recover'")
        words = [row[0] for row in cursor]
    assert [(w["anchored"], w["reason"]) for w in words] == [(number, "restore-7")] and anchored[0] <= words[0]["last"] < number, words
    for name, note in (("early", early), ("late", late)):
        (tmp_path / name).write_text(note["checkpoint"])
    export = auditor(alone, "export").content
    def verify(checkpoint):
        return subprocess.run([VERIFY, "--key", key, "--checkpoint", tmp_path / checkpoint, "-"], input=export, capture_output=True)
    assert verify("early").returncode == 0, verify("early").stdout
    outsider = verify("late")
    assert outsider.returncode == 1 and (b"rewritten" in outsider.stdout or b"was cut" in outsider.stdout), outsider.stdout
    assert new["size"] > early["size"]
