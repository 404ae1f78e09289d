"""The stand-in fails as asked, says so in its call log, and is itself again afterwards."""
import http.client
import json
import threading
import time
import urllib.error
import urllib.request

import botocore.exceptions
import pytest

from test_gateway import DOCUMENT, code_of

BUCKET = "cordon-documents"
REFUSALS = [
    ("s3", "throttle", "SlowDown", 503), ("kms", "throttle", "ThrottlingException", 400), ("sts", "throttle", "Throttling", 400),
    ("s3", "error500", "InternalError", 500), ("kms", "error500", "KMSInternalException", 500), ("sts", "error500", "InternalFailure", 500),
    ("s3", "error503", "ServiceUnavailable", 503), ("kms", "error503", "ServiceUnavailableException", 503),
    ("s3", "expired", "ExpiredToken", 400), ("kms", "expired", "ExpiredTokenException", 400), ("sts", "expired", "ExpiredToken", 403),
    ("s3", "denied", "AccessDenied", 403), ("kms", "denied", "AccessDeniedException", 400),
    ("s3", "skewed", "RequestTimeTooSkewed", 403), ("kms", "skewed", "InvalidSignatureException", 400),
    ("kms", "disabled", "DisabledException", 400), ("s3", "bad_digest", "BadDigest", 400), ("s3", "error429", "TooManyRequestsException", 429),
]


def control(cloud, **switches):
    request = urllib.request.Request(f"{cloud.url}/_control", json.dumps(switches).encode(), method="POST")
    return json.loads(urllib.request.urlopen(request, timeout=5).read())


@pytest.fixture
def fault(cloud):
    """fault(kind, ...): one rule instead of those before."""
    yield lambda kind, **rule: control(cloud, rules=[{"kind": kind, **rule}])
    control(cloud)


def ask(cloud, service, name="tester"):
    """A call of each service that succeeds when nothing is broken."""
    client = cloud.client(service, name)
    return {"s3": lambda: client.list_objects_v2(Bucket=BUCKET, Prefix="none"), "kms": lambda: client.list_keys(),
            "sts": lambda: client.get_caller_identity()}[service]


@pytest.mark.parametrize("service,kind,code,status", REFUSALS)
def test_a_service_refuses_in_its_own_words_so_many_times(cloud, fault, service, kind, code, status):
    fault(kind, service=service, times=2)
    for _ in range(2):
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            ask(cloud, service)()
        assert caught.value.response["Error"]["Code"] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    ask(cloud, service)()


def test_only_the_named_operation_identity_and_resource_meet_it(cloud, fault):
    s3 = cloud.client("s3", "tester")
    fault("error500", service="s3", operation="PutObject", identity="tester", resource="/struck")
    s3.put_object(Bucket=BUCKET, Key="spared", Body=b"x")
    s3.get_object(Bucket=BUCKET, Key="spared")
    cloud.for_tenant("s3", "ingest-worker", "t-1").put_object(Bucket=BUCKET, Key="tenants/t-1/struck", Body=b"x")
    assert code_of(s3.put_object, Bucket=BUCKET, Key="tenants/t-1/struck", Body=b"x") == "InternalError"


def test_the_operations_of_a_multipart_upload_have_their_own_names(cloud, fault):
    s3 = cloud.client("s3", "tester")
    for operation in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload"):
        fault("error500", service="s3", operation=operation)
        key = {"Bucket": BUCKET, "Key": "parts"}
        steps = []
        try:
            upload = s3.create_multipart_upload(**key)["UploadId"]
            steps.append("CreateMultipartUpload")
            part = s3.upload_part(**key, UploadId=upload, PartNumber=1, Body=b"x")
            steps.append("UploadPart")
            s3.complete_multipart_upload(**key, UploadId=upload, MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]})
            steps.append("CompleteMultipartUpload")
            s3.abort_multipart_upload(**key, UploadId=s3.create_multipart_upload(**key)["UploadId"])
        except botocore.exceptions.ClientError as error:
            assert error.operation_name == operation
        else:
            raise AssertionError(f"{operation} was let through after {steps}")


def test_some_calls_pass_before_the_fault(cloud, fault):
    fault("throttle", service="kms", skip=2, times=1)
    ask(cloud, "kms")()
    ask(cloud, "kms")()
    assert code_of(ask(cloud, "kms")) == "ThrottlingException"
    ask(cloud, "kms")()


def test_a_fault_ends_with_its_time(cloud, fault):
    fault("throttle", service="kms", seconds=0.3)
    began = time.monotonic()
    while time.monotonic() < began + 5:
        try:
            ask(cloud, "kms")()
            break
        except botocore.exceptions.ClientError:
            continue
    assert 0.25 < time.monotonic() - began < 4


def test_what_hangs_is_let_go_when_the_fault_is_cleared(cloud, fault):
    fault("hang", service="kms", times=1)
    ended = []
    asking = threading.Thread(target=lambda: ended.append(pytest.raises(botocore.exceptions.BotoCoreError, ask(cloud, "kms"))))
    asking.start()
    deadline = time.monotonic() + 5
    while not json.loads(urllib.request.urlopen(f"{cloud.url}/_control").read())["rules"][0]["struck"]:
        assert time.monotonic() < deadline
    assert not ended
    control(cloud)
    asking.join(5)
    assert ended


@pytest.mark.parametrize("kind", ["reset", "lost"])
def test_a_connection_ends_without_an_answer(cloud, fault, kind):
    s3 = cloud.client("s3", "tester")
    fault(kind, service="s3", operation="PutObject", times=1)
    with pytest.raises(botocore.exceptions.BotoCoreError):
        s3.put_object(Bucket=BUCKET, Key=f"answer-{kind}", Body=b"x")
    line = cloud.calls_until(lambda call: call["fault"] == kind)[-1]
    assert (line["operation"], line["effect"]) == ("PutObject", kind == "lost")
    there = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"answer-{kind}").get("KeyCount")
    assert there == (1 if kind == "lost" else 0)


def test_a_body_is_cut_after_n_bytes(cloud, fault):
    s3 = cloud.client("s3", "tester")
    s3.put_object(Bucket=BUCKET, Key="cut", Body=bytes(100_000))
    fault("cut", service="s3", operation="GetObject", bytes=50_000)
    body = s3.get_object(Bucket=BUCKET, Key="cut")["Body"]
    got = b""
    with pytest.raises((botocore.exceptions.BotoCoreError, http.client.IncompleteRead)):
        while portion := body.read(1000):
            got += portion
    assert 49_000 <= len(got) <= 50_000


def test_one_bit_is_turned_and_nothing_else(cloud, fault):
    s3 = cloud.client("s3", "tester")
    s3.put_object(Bucket=BUCKET, Key="bit", Body=bytes(2000))
    fault("corrupt", service="s3", operation="GetObject", bytes=1234)
    assert s3.get_object(Bucket=BUCKET, Key="bit")["Body"].read() == bytes(1234) + b"\1" + bytes(765)


def test_a_slow_answer_comes_whole(cloud, fault):
    s3 = cloud.client("s3", "tester")
    s3.put_object(Bucket=BUCKET, Key="slow", Body=bytes(1000))
    fault("slow", service="s3", operation="GetObject", bytes_per_s=2000)
    began = time.monotonic()
    assert s3.get_object(Bucket=BUCKET, Key="slow")["Body"].read() == bytes(1000)
    assert time.monotonic() - began > 0.4


def test_two_hundred_with_an_error_in_it(cloud, fault):
    s3 = cloud.client("s3", "tester")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="ok-error")["UploadId"]
    part = s3.upload_part(Bucket=BUCKET, Key="ok-error", UploadId=upload, PartNumber=1, Body=b"x")
    fault("ok_error", service="s3", operation="CompleteMultipartUpload", times=1)
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    with pytest.raises(botocore.exceptions.ClientError):        # the SDK looks into the 200 for exactly this
        s3.complete_multipart_upload(Bucket=BUCKET, Key="ok-error", UploadId=upload, MultipartUpload=parts)
    s3.complete_multipart_upload(Bucket=BUCKET, Key="ok-error", UploadId=upload, MultipartUpload=parts)


def test_another_etag_is_named(cloud, fault):
    s3 = cloud.client("s3", "tester")
    fault("wrong_etag", service="s3", times=1)
    assert s3.put_object(Bucket=BUCKET, Key="etag", Body=b"x")["ETag"] == '"' + "0" * 32 + '"'
    assert s3.put_object(Bucket=BUCKET, Key="etag", Body=b"x")["ETag"] != '"' + "0" * 32 + '"'


def test_a_clock_that_is_ahead_refuses_and_says_its_time(cloud, fault):
    control(cloud, clock_ahead_s=1200)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        ask(cloud, "s3")()
    assert caught.value.response["Error"]["Code"] == "RequestTimeTooSkewed"
    control(cloud)
    ask(cloud, "s3")()


def test_a_fault_never_lets_through_what_is_forbidden(cloud, fault):
    fault("ok_empty", service="s3")
    assert code_of(cloud.client("s3", "embedding-worker").get_object, Bucket=BUCKET, Key=DOCUMENT) == "AccessDenied"
    assert code_of(cloud.client("s3", "tester", secret="another").list_buckets) == "SignatureDoesNotMatch"


def test_an_unknown_fault_is_refused(cloud):
    with pytest.raises(urllib.error.HTTPError) as caught:
        control(cloud, rules=[{"kind": "gremlin"}])
    assert caught.value.code == 400
