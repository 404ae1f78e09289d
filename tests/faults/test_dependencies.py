"""Every kind of failure of every AWS service, and what a user sees of it: status, code and when to come again; work that is
put off with its reason and done later; nothing lost, nobody dead, and everything good again as soon as the service is."""
import concurrent.futures
import hashlib
import time
import uuid

import pytest

from detours import IS_LONG, aws_fails, note_recovery, outcome, recovers, seconds_until, struck

RECOVERY_S = 3
PART = 6 << 20      # S3_PART_BYTES

STORE, STORE_DAMAGED, KEYS, KEY_DISABLED, MODEL, MODEL_LIMITED, MODEL_BROKE_OFF = (
    "STORE_001", "STORE_003", "KMS_002", "KMS_001", "MODEL_001", "MODEL_002", "MODEL_003")

# service, operation, what a user does, {kind: (status, code)}. Kinds are those of dev/cloud/faults.py.
# A turned bit in an answer of KMS or Bedrock is not here: it comes inside TLS, which makes it a reset.
UPLOADS = ("throttle", "error500", "error503", "error429", "reset", "lost", "ok_error", "ok_empty", "expired", "denied", "disabled", "skewed", "bad_digest")
DOWNLOADS = ("throttle", "error500", "error503", "error429", "reset", "lost", "expired", "denied", "disabled", "skewed")
MODELS = ("error500", "error503", "reset", "lost", "cut", "ok_error", "ok_empty", "expired", "denied", "skewed")
TABLE = [
    ("s3", "PutObject", "upload", {kind: (503, STORE) for kind in UPLOADS}),
    ("s3", "GetObject", "content", {**{kind: (503, STORE) for kind in DOWNLOADS}, "corrupt": (503, STORE_DAMAGED),
                                    "ok_error": (503, STORE_DAMAGED), "ok_empty": (503, STORE_DAMAGED), "cut": (503, STORE)}),
    ("kms", "Decrypt", "first_upload", {**{kind: (503, KEYS) for kind in (*MODELS, "throttle", "error429")}, "disabled": (503, KEY_DISABLED)}),
    ("kms", "CreateKey", "new_tenant", {kind: (503, KEYS) for kind in (*MODELS, "throttle", "error429")}),
    ("kms", "GenerateDataKeyWithoutPlaintext", "new_tenant", {**{kind: (503, KEYS) for kind in (*MODELS, "throttle", "error429")}, "disabled": (503, KEY_DISABLED)}),
    ("sts", "AssumeRole", "first_upload", {kind: (503, KEYS) for kind in (*MODELS, "throttle", "error429")}),      # the tenant's session, for its key
    ("bedrock", "InvokeModel", "search", {**{kind: (503, MODEL) for kind in MODELS}, "throttle": (429, MODEL_LIMITED), "error429": (429, MODEL_LIMITED)}),
    ("bedrock", "ConverseStream", "question", {**{kind: (503, MODEL) for kind in MODELS}, "ok_error": (503, MODEL_BROKE_OFF), "ok_empty": (503, MODEL_BROKE_OFF),
                                               "throttle": (429, MODEL_LIMITED), "error429": (429, MODEL_LIMITED)}),
]
CASES = [(service, operation, action, kind, expected) for service, operation, action, kinds in TABLE for kind, expected in kinds.items()]
QUICK = {"throttle", "reset", "ok_error", "corrupt", "denied", "disabled"}

# Every kind that a service is to be tried with is in its row, or told here. None: any.
KINDS = ("error429", "error500", "error503", "throttle", "hang", "reset", "lost", "cut", "corrupt", "ok_error", "ok_empty", "expired", "denied", "disabled", "skewed")
ELSEWHERE = {
    (None, None, "hang"): "test_a_service_that_never_answers_is_left_in_time",
    ("s3", "PutObject", "cut"): "its answer has no body; of CompleteMultipartUpload: test_a_large_upload_survives_one_failure_of_each_step",
    ("s3", "PutObject", "corrupt"): "S3 verifies what it was sent, and says bad_digest",
    ("kms", None, "corrupt"): "inside TLS it is a reset", ("sts", None, "corrupt"): "inside TLS it is a reset",
    ("bedrock", None, "corrupt"): "inside TLS it is a reset; a frame with a wrong CRC, and an exception in mid-stream: tests/e2e/test_streams.py",
    ("kms", "CreateKey", "disabled"): "it has none yet",
    ("sts", None, "disabled"): "asks no key", ("bedrock", None, "disabled"): "asks no key",
}


def resource_of(service):
    """The documents' bucket only: the anchors of the audit log are not for this file to break."""
    return "cordon-documents" if service == "s3" else ""


@pytest.fixture(scope="module")
def kept(detoured):
    """A document from before the trouble."""
    text = b"Written before: the cat is called Hieronymus and takes no medicines."
    return detoured.ingest(text)["id"], text


class User:
    """Does one thing and says what came of it."""

    def __init__(self, stack, kept):
        self.stack, self.kept = stack, kept
        self.tenant = None

    def upload(self):
        return self.stack.upload(f"A note, {uuid.uuid4()}".encode(), timeout=90)

    def first_upload(self):
        """Of a tenant whose keys no process holds yet."""
        if self.tenant is None:
            self.tenant = f"t{uuid.uuid4().hex[:10]}"
            self.stack.cordon("tenants", "create", self.tenant, "Of one test")
        return self.stack.upload(f"A first note, {uuid.uuid4()}".encode(), tenant=self.tenant, timeout=90)

    def content(self):
        answer = self.stack.call("GET", f"/api/v1/documents/{self.kept[0]}/content", timeout=90)
        assert answer.status_code != 200 or answer.content == self.kept[1], "what arrives is whole"
        return answer

    def new_tenant(self):
        slug = f"t{uuid.uuid4().hex[:10]}"
        return self.stack.call("POST", "/api/v1/tenants", tenant=None, role="platform_admin", user="operator", json={"slug": slug, "name": "Of one test"}, timeout=90)

    def search(self):
        return self.stack.call("POST", "/api/v1/search", json={"question": "What is the cat called?"}, timeout=90)

    def question(self):
        return self.stack.call("POST", "/api/v1/query", json={"question": "What is the cat called?"}, timeout=90)

    def do(self, action):
        return outcome(getattr(self, action)())


@pytest.fixture
def user(broken, kept):
    return User(broken, kept)


GOOD = {"upload": 202, "first_upload": 202, "new_tenant": 201, "content": 200, "search": 200, "question": 200}


@pytest.mark.parametrize("service,operation,action,kind,expected", [
    pytest.param(*case, id=f"{case[0]}-{case[1]}-{case[3]}") for case in CASES if IS_LONG or case[3] in QUICK and case[2] != "new_tenant"])
def test_a_failing_service_is_told_and_good_again_at_once(broken, user, service, operation, action, kind, expected):
    if action == "first_upload":
        user.tenant = f"t{uuid.uuid4().hex[:10]}"
        broken.cordon("tenants", "create", user.tenant, "Of one test")
        broken.token(user.tenant)
    aws_fails(broken, {"service": service, "operation": operation, "resource": resource_of(service), "kind": kind, "bytes": 20})
    assert user.do(action) == expected
    aws_fails(broken)
    recovers(broken, f"{service} {operation} {kind}: {action}", lambda: user.do(action)[0] == GOOD[action], RECOVERY_S)


def test_no_kind_is_forgotten_for_any_service():
    missing = [(service, operation, kind) for service, operation, _, kinds in TABLE for kind in KINDS
               if kind not in kinds and not {(None, None, kind), (service, None, kind), (service, operation, kind)} & set(ELSEWHERE)]
    assert not missing


@pytest.mark.parametrize("service,operation,action", [row[:3] for row in TABLE if row[1] != "CreateKey"])    # which is not sent twice
@pytest.mark.parametrize("kind", ["throttle", "error500", "error503", "reset", "lost"] if IS_LONG else ["lost"])
def test_one_failure_is_nobodys_business(broken, user, service, operation, action, kind):
    aws_fails(broken, {"service": service, "operation": operation, "kind": kind, "times": 1})
    assert user.do(action) == (GOOD[action], None)


def test_a_service_that_never_answers_is_left_in_time(broken, user):
    """Together, as each takes its patience: S3 four times 6 s, KMS four times 3 s, the model four times 3 s."""
    user.tenant = f"t{uuid.uuid4().hex[:10]}"
    broken.cordon("tenants", "create", user.tenant, "Of one test")
    broken.token(user.tenant)
    broken.token()
    waits = {"upload": (503, STORE, 30), "content": (503, STORE, 30), "first_upload": (503, KEYS, 18), "search": (503, MODEL, 18)}
    if not IS_LONG:
        del waits["upload"], waits["content"]
    aws_fails(broken, *({"service": service, "operation": operation, "resource": resource_of(service), "kind": "hang"} for service, operation, _, _ in TABLE))

    def measured(action):
        began = time.monotonic()
        return (*user.do(action), time.monotonic() - began)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for action, (status, code, seconds) in threads.map(lambda action: (action, measured(action)), waits):
            assert (status, code) == waits[action][:2], action
            assert seconds < waits[action][2], (action, seconds)
            note_recovery(f"{action} given up while its service hangs", seconds)
    aws_fails(broken)
    for action in waits:
        recovers(broken, f"after a hang: {action}", lambda: user.do(action)[0] == GOOD[action], RECOVERY_S)


@pytest.mark.parametrize("ahead_s", [1200, -1200])
def test_a_clock_twenty_minutes_off_is_corrected(broken, user, ahead_s):
    aws_fails(broken, clock_ahead_s=ahead_s)
    for action in ("first_upload", "content", "search", "question"):
        assert user.do(action) == (GOOD[action], None), action


# ---- large originals: every step of a multipart upload

def objects(stack, prefix="tenants/"):
    """(keys of objects, keys of unfinished uploads) in the bucket of documents."""
    import boto3
    import botocore.config
    cloud = stack.info["cloud"]
    s3 = boto3.client("s3", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=cloud["access_key_id"],
                      aws_secret_access_key=cloud["secret_access_key"], config=botocore.config.Config(s3={"addressing_style": "path"}))
    keys = {entry["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket="cordon-documents", Prefix=prefix)
            for entry in page.get("Contents", [])}
    begun = {entry["Key"] for entry in s3.list_multipart_uploads(Bucket="cordon-documents", Prefix=prefix).get("Uploads", [])}
    return keys, begun


LARGE = (b"A line of a long note about nothing in particular.\n" * (PART // 50))[:PART + 100_000]
STEPS = ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["lost", "ok_error"] + (["cut", "error500", "throttle", "reset", "bad_digest"] if IS_LONG else []))
def test_a_large_upload_survives_one_failure_of_each_step(broken, step, kind):
    aws_fails(broken, {"service": "s3", "operation": step, "kind": kind, "times": 1})
    answer = broken.upload(LARGE + kind.encode() + step.encode(), timeout=60)
    assert answer.status_code == 202, answer.text
    document = answer.json()["document_id"]
    content = broken.call("GET", f"/api/v1/documents/{document}/content")
    assert hashlib.sha256(content.content).digest() == hashlib.sha256(LARGE + kind.encode() + step.encode()).digest()
    assert broken.call("DELETE", f"/api/v1/documents/{document}").status_code in (202, 204)     # no need to embed it


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["ok_empty"] + (["error500", "ok_error", "denied"] if IS_LONG else []))
def test_a_large_upload_that_cannot_be_stored_leaves_nothing(broken, step, kind):
    keys, begun = objects(broken)
    aws_fails(broken, {"service": "s3", "operation": step, "kind": kind})
    assert outcome(broken.upload(LARGE, timeout=60)) == (503, STORE)
    aws_fails(broken)
    assert objects(broken) == (keys, begun)


@pytest.mark.parametrize("at", [100, 300_000, PART + 50_000])
def test_a_download_that_breaks_off_is_taken_up_where_it_ended(broken, at):
    document = broken.upload(LARGE + b"for cuts", timeout=60).json()["document_id"]
    aws_fails(broken, {"service": "s3", "operation": "GetObject", "identity": "query", "kind": "cut", "bytes": at, "times": 2})
    content = broken.call("GET", f"/api/v1/documents/{document}/content", timeout=60)
    assert content.status_code == 200 and content.content == LARGE + b"for cuts"
    assert struck(broken) == 2
    assert broken.call("DELETE", f"/api/v1/documents/{document}").status_code in (202, 204)


# ---- work that nobody waits for

JOBS = [("s3", "GetObject", "throttle", STORE), ("s3", "GetObject", "corrupt", STORE_DAMAGED), ("s3", "GetObject", "ok_empty", STORE_DAMAGED),
        ("bedrock", "InvokeModel", "denied", MODEL), ("bedrock", "InvokeModel", "ok_error", MODEL)]
JOBS_LONG = [("s3", "GetObject", kind, STORE) for kind in ("error500", "error503", "reset", "lost", "cut", "stall", "hang", "expired", "denied", "skewed")] + \
            [("bedrock", "InvokeModel", kind, MODEL) for kind in ("error500", "reset", "lost", "cut", "hang", "stall", "expired", "ok_empty")] + \
            [("bedrock", "InvokeModel", "throttle", MODEL_LIMITED)]


@pytest.mark.parametrize("service,operation,kind,reason", JOBS + (JOBS_LONG if IS_LONG else []))
def test_accepted_work_is_put_off_with_its_reason_and_done_later(broken, service, operation, kind, reason):
    aws_fails(broken, {"service": service, "operation": operation, "resource": resource_of(service), "kind": kind, "bytes": 5})
    accepted = broken.upload(f"To be put off, {uuid.uuid4()}".encode())
    assert accepted.status_code == 202, accepted.text
    job = f"/api/v1/jobs/{accepted.json()['job_id']}"

    def put_off():
        answer = broken.call("GET", job).json()
        answer = answer.get("job", answer)
        assert answer["state"] in ("queued", "running"), answer
        return answer["reason_code"] == reason and answer
    said = broken.wait_for(f"put off for {reason}", put_off, 150)
    assert said["attempt"] <= 1, "an outage is no attempt"
    aws_fails(broken)
    seconds = seconds_until(broken, "ready", lambda: broken.wait_ready(accepted.json()["document_id"], 60)["status"] == "ready", 60)
    note_recovery(f"{service} {operation} {kind}: work put off", seconds)
