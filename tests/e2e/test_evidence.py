"""An outsider's view: what was exported is checked by cordon-verify, with the key from elsewhere; and what was signed is where nobody can change it."""
import base64
import hashlib
import json
import subprocess

import boto3
import pytest

from conftest import ROOT, STATE, wait_for
from test_login import browser  # noqa: F401 (a fixture)

VERIFY = ROOT / ".cordon/build/release/services/verify/cordon-verify"


def verify(*args, text=b""):
    return subprocess.run([VERIFY, *args], input=text, capture_output=True)


@pytest.fixture(scope="module")
def key():
    return subprocess.run(["cat", STATE / "secrets/.made/checkpoint.verifier"], capture_output=True, text=True, check=True).stdout.strip()


def ask(stack, path, **params):
    return stack.call("GET", f"/api/v1/audit/{path}", role="auditor", params=params)


def signed(stack, size=1):
    """The newest checkpoint, once it covers so many events."""
    def look():
        answer = ask(stack, "checkpoint")
        return answer.status_code == 200 and answer.json()["size"] >= size and answer.json()
    return wait_for(f"a checkpoint of {size} events", look, 60, 0.5)


def test_an_export_is_verified_and_a_changed_one_is_not(stack, key, tmp_path):
    stack.ingest(b"Evidence sample: blood pressure 120 over 80.")
    old = signed(stack, 5)
    (tmp_path / "old.note").write_text(old["checkpoint"])
    stack.ingest(b"Evidence sample, the day after.")
    signed(stack, old["size"] + 1)
    answer = ask(stack, "export")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/jsonl"
    done = verify("--key", key, "--checkpoint", tmp_path / "old.note", "-", text=answer.content)
    assert done.returncode == 0, done.stdout + done.stderr
    changed = answer.content.replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    done = verify("--key", key, "-", text=changed)
    assert done.returncode == 1 and b"was altered" in done.stdout, done.stdout
    part = ask(stack, "export", from_seq=3, to_seq=5, since=2)
    assert verify("--key", key, "-", text=part.content).returncode == 0
    exported = ask(stack, "events", action="audit.export").json()["events"]
    assert exported


def test_proofs_are_verified(stack, key, tmp_path):
    size = signed(stack, 5)["size"]
    for name, path, params in (("inclusion", "events/3/proof", {}), ("consistency", "consistency", {"from": 4})):
        answer = ask(stack, path, **params)
        assert answer.status_code == 200, answer.text
        (tmp_path / name).write_text(answer.text)
        done = verify(name, "--key", key, tmp_path / name)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(ask(stack, "tile/0/000.p/4").content) == 128
    assert ask(stack, f"events/{size + 100000}/proof").json()["code"] == "AUDIT_003"


def test_what_was_signed_is_in_the_bucket_and_cannot_be_removed(stack, key):
    signed(stack)
    cloud = stack.info["cloud"]
    s3 = boto3.client("s3", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=cloud["access_key_id"],
                      aws_secret_access_key=cloud["secret_access_key"])
    name = dict(Bucket="cordon-anchor", Key="checkpoints/000000000001.jsonl")
    got = s3.get_object(**name)
    assert got["ObjectLockMode"] == "COMPLIANCE"
    first = json.loads(got["Body"].read().splitlines()[0])["note"]
    done = verify("note", "--key", key, "/dev/stdin", text=first.encode())
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.raises(s3.exceptions.ClientError):
        s3.delete_object(**name, VersionId=got["VersionId"])


def run_page(key, folder, content, *kept):
    (folder / "export").write_bytes(content)
    done = subprocess.run([ROOT / ".cordon/app/node", ROOT / "tests/e2e/verify_page.mjs", key, folder / "export", *kept], capture_output=True, check=True)
    return json.loads(done.stdout)


def test_the_page_for_browsers_finds_the_same(stack, key, tmp_path):
    def page(content, *kept):
        return run_page(key, tmp_path, content, *kept)
    old = signed(stack, 5)
    (tmp_path / "old.note").write_text(old["checkpoint"])
    whole = ask(stack, "export").content
    assert page(whole, tmp_path / "old.note")["good"], page(whole)
    part = ask(stack, "export", from_seq=old["size"], since=old["size"]).content
    assert page(part, tmp_path / "old.note")["good"], page(part, tmp_path / "old.note")
    changed = whole.replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    assert (page(changed)["good"], page(changed)["index"]) == (False, 0)
    assert not page(whole[:-20])["good"]


# ---- receipts ----

def receipt(stack, answer_id, want="signed", **params):
    def look():
        answer = stack.call("GET", f"/api/v1/query/{answer_id}/receipt", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()["state"] == want and answer
    return wait_for(f"a receipt that is {want}", look, 60, 0.5)


def test_an_answer_s_receipt_is_verified_by_a_stranger_closed_and_opened(stack, key, tmp_path):
    stack.ingest(b"Receipt sample: the patient takes lisinopril 10 mg once a day.", name="receipt.txt")
    asked = stack.call("POST", "/api/v1/query", json={"question": "How much lisinopril does the patient take?"}).json()
    closed = receipt(stack, asked["answer_id"])
    assert b"lisinopril" not in closed.content
    (tmp_path / "closed").write_bytes(closed.content)
    done = verify("record", "--key", key, tmp_path / "closed")
    assert done.returncode == 0 and b"opened: 0" in done.stdout, done.stdout + done.stderr
    opened = receipt(stack, asked["answer_id"], open="true")
    assert opened.json()["output"] == asked["answer"] and opened.json()["question"].startswith("How much")
    (tmp_path / "opened").write_bytes(opened.content)
    done = verify("record", "--key", key, tmp_path / "opened")
    assert done.returncode == 0 and b"opened: 0" not in done.stdout, done.stdout + done.stderr
    (tmp_path / "changed").write_bytes(opened.content.replace(b"How much", b"How many"))
    done = verify("record", "--key", key, tmp_path / "changed")
    assert done.returncode == 1 and b"the question is not what the receipt commits to" in done.stdout, done.stdout
    (tmp_path / "auditor").write_bytes(ask(stack, f"receipts/{asked['answer_id']}").content)
    done = verify("record", "--key", key, tmp_path / "auditor")
    assert done.returncode == 0 and b"opened: 0" in done.stdout, done.stdout + done.stderr
    read = ask(stack, "events", action="answer.receipt.read").json()["events"]
    assert len(read) >= 2
    assert stack.call("GET", f"/api/v1/query/{asked['answer_id']}/receipt", user="somebody-else").status_code == 404
    assert stack.call("GET", f"/api/v1/query/{asked['answer_id']}/receipt", role="auditor").status_code == 403


@pytest.fixture(scope="module")
def kms_verifier(stack):
    """The public half of the key in KMS, from KMS itself, as an outsider would be given it by the operator; by the log's name."""
    cloud = stack.info["cloud"]
    kms = boto3.client("kms", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=cloud["access_key_id"],
                       aws_secret_access_key=cloud["secret_access_key"])
    spki = kms.get_public_key(KeyId="alias/cordon-audit-signing")["PublicKey"]

    def countersigned():
        answer = signed(stack)
        return answer["checkpoint"].count("\u2014 ") > 1 and answer
    note = wait_for("a second signature", countersigned, 60, 0.5)["checkpoint"]
    return "+".join((note.splitlines()[0], hashlib.sha256(spki).digest()[:4].hex(), base64.b64encode(b"\x02" + spki).decode())), note


def test_heads_are_signed_by_the_key_in_kms_too(kms_verifier, tmp_path):
    verifier, note = kms_verifier
    (tmp_path / "note").write_text(note)
    done = verify("note", "--key", verifier, tmp_path / "note")
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "note").write_text(note.replace(note.splitlines()[1], "999999", 1))
    assert verify("note", "--key", verifier, tmp_path / "note").returncode == 1


def countersigned_export(stack):
    """With the second signature of its head, and the same with a byte of that signature changed."""
    def look():
        content = ask(stack, "export").content
        note = json.loads(next(line for line in content.splitlines() if line.startswith(b'{"cordon":"checkpoint"')))["note"]
        found = [line.rpartition(" ")[2] for line in note.splitlines() if line.startswith("\u2014 ")]
        return len(found) > 1 and (content, max(found, key=len).encode())        # the longer one is KMS's
    content, signature = wait_for("an export whose head has a second signature", look, 60, 0.5)
    changed = bytearray(base64.b64decode(signature))
    changed[-3] ^= 1
    return content, content.replace(signature, base64.b64encode(changed))


def test_the_page_checks_the_key_in_kms_too_also_in_a_real_browser(stack, kms_verifier, browser, tmp_path):
    key, (content, forged) = kms_verifier[0], countersigned_export(stack)
    altered = content.replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    assert run_page(key, tmp_path, content)["good"], run_page(key, tmp_path, content)
    assert not run_page(key, tmp_path, forged)["good"]
    browser.get((ROOT / "docs/verify.html").as_uri())
    def in_browser(what, by=key):
        return browser.execute_async_script("const done = arguments[2]; verifyExport([new TextEncoder().encode(arguments[0])], arguments[1]).then(done);", what.decode(), by)
    assert in_browser(content)["good"], in_browser(content)
    assert (in_browser(altered)["good"], in_browser(altered)["index"]) == (False, 0)
    assert "not signed" in in_browser(forged)["text"]
    other = key[:-8] + base64.b64encode(bytes(6)).decode()
    assert not in_browser(content, other)["good"]


def test_only_configured_witnesses_may_cosign(stack):
    answer = stack.call("POST", "/api/v1/audit/cosignatures", role="auditor",
                        json={"size": signed(stack)["size"], "lines": "\u2014 witness.example/w1 AAAA\n"})
    assert answer.status_code == 400 and answer.json()["code"] == "REQ_004", answer.text
    assert stack.call("POST", "/api/v1/audit/cosignatures", role="clinician", json={"size": 1, "lines": "x"}).status_code == 403
