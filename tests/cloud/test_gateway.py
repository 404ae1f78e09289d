"""What the stand-in lets through and what it refuses, seen by an SDK that nobody here wrote."""
import datetime
import hashlib
import http.client
import json
import os
import re
import threading
import urllib.error
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.exceptions
import pytest

TENANT, OTHER_TENANT = "t-1", "t-2"
DOCUMENT, OTHERS_DOCUMENT = "tenants/t-1/doc-1", "tenants/t-2/doc-1"


def code_of(call, *args, **kwargs):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*args, **kwargs)
    return caught.value.response["Error"]["Code"]


# signatures

def test_a_good_signature_is_known_by_name(cloud):
    assert cloud.client("sts", "query").get_caller_identity()["Arn"] == "arn:aws:iam::123456789012:user/query"


@pytest.mark.parametrize("service,call,expected", [
    ("sts", "get_caller_identity", "SignatureDoesNotMatch"),
    ("kms", "list_keys", "InvalidSignatureException"),
    ("s3", "list_buckets", "SignatureDoesNotMatch")])
def test_a_wrong_secret_is_refused(cloud, service, call, expected):
    assert code_of(getattr(cloud.client(service, "tester", secret="another"), call)) == expected


def test_an_unknown_access_key_is_refused(cloud):
    cloud.secrets["nobody"] = ("AKIANOBODY", "x")
    assert code_of(cloud.client("kms", "nobody").list_keys) == "UnrecognizedClientException"
    assert code_of(cloud.client("s3", "nobody").list_buckets) == "InvalidAccessKeyId"


def test_an_unsigned_request_is_refused(cloud):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{cloud.url}/cordon-documents/{DOCUMENT}")
    assert caught.value.code == 403 and b"AccessDenied" in caught.value.read()


def signed(cloud, name, method, path, body=b"", when=None, service="s3", headers=None):
    """-> header dict of a request signed by botocore, at another time if asked."""
    request = botocore.awsrequest.AWSRequest(method, cloud.url + path, data=body, headers=headers or {})
    key, secret = cloud.secrets[name]
    signer = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    original = botocore.auth.datetime.datetime
    if when:
        class Clock(datetime.datetime):
            @classmethod
            def utcnow(cls):
                return when
        botocore.auth.datetime.datetime = Clock
    try:
        signer(botocore.credentials.Credentials(key, secret), service, "us-east-1").add_auth(request)
    finally:
        botocore.auth.datetime.datetime = original
    return dict(request.headers)


def send(cloud, method, path, headers, body=b""):
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=10)
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_a_clock_twenty_minutes_off_is_refused(cloud):
    late = datetime.datetime.utcnow() - datetime.timedelta(minutes=20)
    status, body = send(cloud, "GET", "/", signed(cloud, "tester", "GET", "/", when=late))
    assert status == 403 and b"RequestTimeTooSkewed" in body
    within = datetime.datetime.utcnow() - datetime.timedelta(minutes=10)
    assert send(cloud, "GET", "/", signed(cloud, "tester", "GET", "/", when=within))[0] == 200


def test_a_body_changed_after_signing_is_refused_and_not_stored(cloud):
    path = f"/cordon-documents/{DOCUMENT}-changed"
    headers = signed(cloud, "tester", "PUT", path, b"what was signed")
    status, body = send(cloud, "PUT", path, headers, b"what was sent!!")
    assert status == 400 and b"XAmzContentSHA256Mismatch" in body
    assert code_of(cloud.client("s3", "tester").get_object, Bucket="cordon-documents", Key=f"{DOCUMENT}-changed") == "NoSuchKey"


def test_a_header_added_after_signing_is_refused(cloud):
    headers = signed(cloud, "tester", "GET", "/")
    assert send(cloud, "GET", "/", {**headers, "x-amz-meta-late": "1"})[0] == 403


def test_an_altered_path_or_query_is_refused(cloud):
    headers = signed(cloud, "tester", "GET", "/cordon-documents?prefix=a")
    assert send(cloud, "GET", "/cordon-documents?prefix=b", headers)[0] == 403
    assert send(cloud, "GET", "/cordon-anchor?prefix=a", headers)[0] == 403


WRONG = {
    "another region": lambda h: {**h, "Authorization": h["Authorization"].replace("/us-east-1/", "/eu-west-1/")},
    "another service": lambda h: {**h, "Authorization": h["Authorization"].replace("/kms/", "/secretsmanager/")},
    "another day": lambda h: {**h, "Authorization": re.sub(r"/20\d{6}/", "/20200101/", h["Authorization"])},
    "another end of the scope": lambda h: {**h, "Authorization": h["Authorization"].replace("aws4_request", "aws5_request")},
    "another date": lambda h: {**h, "X-Amz-Date": "20200101T000000Z"},
    "no date": lambda h: {name: value for name, value in h.items() if name != "X-Amz-Date"},
    "another algorithm": lambda h: {**h, "Authorization": h["Authorization"].replace("HMAC-SHA256", "HMAC-SHA1")},
    "a signature of another length": lambda h: {**h, "Authorization": h["Authorization"][:-1]},
    "a signature with one bit turned": lambda h: {**h, "Authorization": h["Authorization"][:-1] + "0123456789abcdef"[int(h["Authorization"][-1], 16) ^ 1]},
    "a host that is not signed": lambda h: {**h, "Authorization": h["Authorization"].replace(";host", "").replace("host;", "")},
    "an operation that was not signed": lambda h: {**h, "X-Amz-Target": "TrentService.ListAliases"},
    "a token that was not signed": lambda h: {**h, "X-Amz-Security-Token": "x"},
}


@pytest.mark.parametrize("what", WRONG)
def test_each_wrong_thing_about_a_signature_is_refused(cloud, what):
    named = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.ListKeys"}
    headers = signed(cloud, "tester", "POST", "/", b"{}", service="kms", headers=named)
    assert send(cloud, "POST", "/", headers, b"{}")[0] == 200
    status, said = send(cloud, "POST", "/", WRONG[what](headers), b"{}")
    assert status in (400, 403) and b"KeyId" not in said and b"Exception" in said, said


def test_a_presigned_url_works_until_it_expires(cloud):
    s3 = cloud.client("s3", "tester", signature_version="s3v4")
    s3.put_object(Bucket="cordon-documents", Key="presigned", Body=b"by link")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "cordon-documents", "Key": "presigned"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"by link"
    for broken in (url.replace("presigned?", "other?"), url.replace("X-Amz-Expires=60", "X-Amz-Expires=600")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(broken)
        assert caught.value.code == 403


# policies

@pytest.mark.parametrize("name", ["auth", "ingest-worker", "query", "audit-writer", "operator", "tester"])
def test_only_the_embedding_worker_reaches_a_model(cloud, name):
    bedrock = [name, "POST", "/model/amazon.titan-embed-text-v2%3A0/invoke", b'{"inputText":"x"}']
    headers = signed(cloud, *bedrock, service="bedrock", headers={"content-type": "application/json"})
    status, body = send(cloud, *bedrock[1:3], headers, bedrock[3])
    assert status == 403 and b"not authorized to perform: bedrock:InvokeModel" in body


def test_the_embedding_worker_reaches_the_model_with_the_twice_encoded_path(cloud):
    path, body = "/model/amazon.titan-embed-text-v2%3A0/invoke", b'{"inputText":"x"}'
    headers = signed(cloud, "embedding-worker", "POST", path, body, service="bedrock", headers={"content-type": "application/json"})
    status, reply = send(cloud, "POST", path, headers, body)
    assert status == 200 and json.loads(reply) == {"path": path, "body": {"inputText": "x"}}
    assert send(cloud, "POST", "/model/other.model/invoke", signed(
        cloud, "embedding-worker", "POST", "/model/other.model/invoke", body, service="bedrock"), body)[0] == 403


@pytest.mark.parametrize("name,key,put,get", [
    ("ingest-worker", DOCUMENT, True, True), ("ingest-worker", OTHERS_DOCUMENT, False, False), ("ingest-worker", "elsewhere", False, False),
    ("query", DOCUMENT, False, True), ("query", OTHERS_DOCUMENT, False, False)])
def test_a_session_for_one_tenant_reaches_its_documents_only(cloud, name, key, put, get):
    cloud.client("s3", "tester").put_object(Bucket="cordon-documents", Key=key, Body=b"x")
    s3 = cloud.for_tenant("s3", name, TENANT)
    for allowed, call in ((put, lambda: s3.put_object(Bucket="cordon-documents", Key=key, Body=b"y")),
                          (get, lambda: s3.get_object(Bucket="cordon-documents", Key=key))):
        call() if allowed else None
        assert allowed or code_of(call) == "AccessDenied"


@pytest.mark.parametrize("name", ["ingest-worker", "query", "auth", "embedding-worker", "audit-writer"])
def test_nobody_touches_documents_without_such_a_session(cloud, name):
    s3 = cloud.client("s3", name)
    assert code_of(s3.put_object, Bucket="cordon-documents", Key=DOCUMENT, Body=b"y") == "AccessDenied"
    assert code_of(s3.get_object, Bucket="cordon-documents", Key=DOCUMENT) == "AccessDenied"


# sessions

def test_a_role_is_taken_on_only_by_its_process_and_only_for_a_tenant(cloud):
    role = "arn:aws:iam::123456789012:role/query-tenant"
    call = dict(RoleArn=role, RoleSessionName="other", Tags=[{"Key": "tenant_id", "Value": TENANT}])
    sts = cloud.client("sts", "query")
    made = sts.assume_role(**{**call, "RoleSessionName": "s1"})
    assert made["AssumedRoleUser"]["Arn"] == "arn:aws:sts::123456789012:assumed-role/query-tenant/s1"
    assert code_of(sts.assume_role, RoleArn=role, RoleSessionName="s1") == "AccessDenied"       # for nobody
    assert code_of(sts.assume_role, **{**call, "RoleArn": role.replace("query", "ingest-worker")}) == "AccessDenied"
    for other in ("auth", "ingest-worker", "embedding-worker", "audit-writer"):
        assert code_of(cloud.client("sts", other).assume_role, **call) == "AccessDenied"


def test_a_session_without_its_token_or_with_another_s_is_unknown(cloud):
    made = cloud.credentials_for_tenant("query", TENANT)
    other = cloud.credentials_for_tenant("query", OTHER_TENANT)
    for token in (None, "x", other["SessionToken"], made["SessionToken"][:-1] + "0", made["SessionToken"].swapcase()):
        s3 = cloud.session_client("s3", {**made, "SessionToken": token})
        assert code_of(s3.get_object, Bucket="cordon-documents", Key=DOCUMENT) == "InvalidAccessKeyId"


def test_a_session_survives_a_restart_and_ends_in_time(cloud):
    cloud.client("s3", "tester").put_object(Bucket="cordon-documents", Key=DOCUMENT, Body=b"kept")
    s3 = cloud.for_tenant("s3", "query", TENANT)
    cloud.kill()
    cloud.start()
    assert s3.get_object(Bucket="cordon-documents", Key=DOCUMENT)["Body"].read() == b"kept"
    made = cloud.credentials_for_tenant("query", TENANT, DurationSeconds=900)
    left = made["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
    assert 890 < left.total_seconds() <= 901


def test_audit_writer_may_only_add_to_the_locked_bucket(cloud):
    s3 = cloud.client("s3", "audit-writer")
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    version = s3.put_object(Bucket="cordon-anchor", Key="checkpoint", Body=b"head", ObjectLockMode="COMPLIANCE",
                            ObjectLockRetainUntilDate=until)["VersionId"]
    assert code_of(s3.delete_object, Bucket="cordon-anchor", Key="checkpoint") == "AccessDenied"
    tester = cloud.client("s3", "tester")
    assert code_of(tester.delete_object, Bucket="cordon-anchor", Key="checkpoint", VersionId=version) == "AccessDenied"
    tester.delete_object(Bucket="cordon-anchor", Key="checkpoint")  # only hides it behind a marker
    assert tester.get_object(Bucket="cordon-anchor", Key="checkpoint", VersionId=version)["Body"].read() == b"head"


# keys

def test_a_tenant_key_opens_only_with_its_own_context(cloud, tenant_key):
    key, blob = tenant_key
    kms = cloud.for_tenant("kms", "query", "t-1")
    assert len(kms.decrypt(CiphertextBlob=blob, EncryptionContext={"tenant_id": "t-1", "purpose": "data"})["Plaintext"]) == 32
    wrong = {"tenant_id": "t-2", "purpose": "data"}
    assert code_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext=wrong) == "AccessDeniedException"  # the policy wants its own
    assert code_of(kms.decrypt, CiphertextBlob=blob) == "AccessDeniedException"
    other = cloud.for_tenant("kms", "query", "t-2")
    assert code_of(other.decrypt, CiphertextBlob=blob, EncryptionContext=wrong) == "InvalidCiphertextException"
    assert code_of(other.decrypt, CiphertextBlob=blob, EncryptionContext={**wrong, "tenant_id": "t-1"}) == "AccessDeniedException"


def test_auth_makes_keys_but_cannot_open_them(cloud, tenant_key):
    key, blob = tenant_key
    kms = cloud.client("kms", "auth")
    assert code_of(kms.decrypt, CiphertextBlob=blob, EncryptionContext={"tenant_id": "t-1", "purpose": "data"}) == "AccessDeniedException"
    assert code_of(kms.generate_data_key, KeyId=key, KeySpec="AES_256") == "AccessDeniedException"
    assert code_of(kms.schedule_key_deletion, KeyId=key) == "AccessDeniedException"
    assert code_of(kms.create_key, Description="without our tag") == "AccessDeniedException"


def test_a_disabled_or_dying_key_opens_nothing(cloud, tenant_key):
    key, blob = tenant_key
    operator, query = cloud.client("kms", "operator"), cloud.for_tenant("kms", "query", "t-1")
    context = {"tenant_id": "t-1", "purpose": "data"}
    operator.disable_key(KeyId=key)
    assert code_of(query.decrypt, CiphertextBlob=blob, EncryptionContext=context) == "DisabledException"
    operator.enable_key(KeyId=key)
    operator.schedule_key_deletion(KeyId=key, PendingWindowInDays=30)
    assert code_of(query.decrypt, CiphertextBlob=blob, EncryptionContext=context) == "KMSInvalidStateException"


def test_audit_writer_signs_and_nobody_else_does(cloud):
    key = "alias/cordon-audit-signing"
    call = dict(KeyId=key, Message=b"head", MessageType="RAW", SigningAlgorithm="ECDSA_SHA_256")
    writer = cloud.client("kms", "audit-writer")
    signature = writer.sign(**call)["Signature"]
    assert cloud.client("kms", "tester").verify(**call, Signature=signature)["SignatureValid"]
    assert code_of(cloud.client("kms", "auth").sign, **call) == "AccessDeniedException"


# objects

def test_a_multipart_upload_is_joined_and_read_by_range(cloud):
    s3, name = cloud.for_tenant("s3", "ingest-worker", TENANT), dict(Bucket="cordon-documents", Key="tenants/t-1/large")
    upload = s3.create_multipart_upload(**name)["UploadId"]
    bodies = [os.urandom(5 << 20), os.urandom(5 << 20), b"the end"]
    parts = [{"PartNumber": n, "ETag": s3.upload_part(**name, UploadId=upload, PartNumber=n, Body=body)["ETag"]}
             for n, body in enumerate(bodies, 1)]
    assert code_of(s3.complete_multipart_upload, **name, UploadId=upload, MultipartUpload={"Parts": parts[::-1]}) == "InvalidPartOrder"
    s3.complete_multipart_upload(**name, UploadId=upload, MultipartUpload={"Parts": parts})
    whole = b"".join(bodies)
    assert hashlib.sha256(s3.get_object(**name)["Body"].read()).digest() == hashlib.sha256(whole).digest()
    edge = (5 << 20) - 3
    assert s3.get_object(**name, Range=f"bytes={edge}-{edge + 9}")["Body"].read() == whole[edge:edge + 10]
    assert s3.get_object(**name, Range="bytes=-7")["Body"].read() == b"the end"
    assert code_of(s3.upload_part, **name, UploadId=upload, PartNumber=1, Body=b"x") == "NoSuchUpload"
    s3.delete_object(**name)
    assert code_of(s3.get_object, **name) == "NoSuchKey"


def test_an_aborted_upload_leaves_no_bytes(cloud):
    s3, name = cloud.for_tenant("s3", "ingest-worker", TENANT), dict(Bucket="cordon-documents", Key="tenants/t-1/aborted")
    folder = cloud.folder / "state/s3/bodies"
    before = len(list(folder.iterdir()))
    upload = s3.create_multipart_upload(**name)["UploadId"]
    s3.upload_part(**name, UploadId=upload, PartNumber=1, Body=b"x" * 100)
    assert len(list(folder.iterdir())) == before + 1
    s3.abort_multipart_upload(**name, UploadId=upload)
    assert len(list(folder.iterdir())) == before


def test_uploads_under_way_are_listed_by_prefix_page_by_page_for_who_may(cloud):
    s3, bucket = cloud.client("s3", "ingest-worker"), "cordon-documents"
    own = cloud.for_tenant("s3", "ingest-worker", "t-listed")
    keys = [f"tenants/t-listed/{n}" for n in (1, 2, 2, 3)]
    begun = sorted((key, own.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in keys)
    found, markers = [], {}
    while True:
        page = s3.list_multipart_uploads(Bucket=bucket, Prefix="tenants/t-listed/", MaxUploads=2, **markers)
        found += [(upload["Key"], upload["UploadId"]) for upload in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert found == begun
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket, Prefix="tenants/t-listed/", KeyMarker=keys[-1])
    assert code_of(s3.list_objects_v2, Bucket=bucket) == "AccessDenied"
    assert code_of(s3.list_multipart_uploads, Bucket="cordon-anchor") == "AccessDenied"
    for name in ("query", "auth", "audit-writer", "embedding-worker"):
        assert code_of(cloud.client("s3", name).list_multipart_uploads, Bucket=bucket) == "AccessDenied"
    for key, upload in begun:
        own.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)


def test_listing_pages_and_groups(cloud):
    s3 = cloud.client("s3", "tester")
    for i in range(5):
        s3.put_object(Bucket="cordon-documents", Key=f"list/{i % 2}/{i}", Body=b"")
    first = s3.list_objects_v2(Bucket="cordon-documents", Prefix="list/", MaxKeys=3)
    rest = s3.list_objects_v2(Bucket="cordon-documents", Prefix="list/", ContinuationToken=first["NextContinuationToken"])
    assert [o["Key"] for o in first["Contents"] + rest["Contents"]] == ["list/0/0", "list/0/2", "list/0/4", "list/1/1", "list/1/3"]
    groups = s3.list_objects_v2(Bucket="cordon-documents", Prefix="list/", Delimiter="/")["CommonPrefixes"]
    assert [g["Prefix"] for g in groups] == ["list/0/", "list/1/"]


def test_a_name_with_spaces_and_plus_signs_survives(cloud):
    s3, key = cloud.client("s3", "tester"), "odd/naïve name+1 (copy)~.txt"
    s3.put_object(Bucket="cordon-documents", Key=key, Body=b"x", Metadata={"note": "n"})
    assert s3.head_object(Bucket="cordon-documents", Key=key)["Metadata"] == {"note": "n"}
    assert s3.list_objects_v2(Bucket="cordon-documents", Prefix="odd/")["Contents"][0]["Key"] == key


# what stays

def test_a_kill_loses_nothing(cloud, tenant_key):
    key, blob = tenant_key
    s3 = cloud.for_tenant("s3", "ingest-worker", TENANT)
    s3.put_object(Bucket="cordon-documents", Key="tenants/t-1/kept", Body=b"still here")
    cloud.client("secretsmanager", "tester").create_secret(Name="cordon/kept", SecretString="s")
    cloud.kill()
    cloud.start()
    assert s3.get_object(Bucket="cordon-documents", Key="tenants/t-1/kept")["Body"].read() == b"still here"
    context = {"tenant_id": "t-1", "purpose": "data"}
    assert len(cloud.for_tenant("kms", "query", TENANT).decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"]) == 32
    assert cloud.client("secretsmanager", "tester").get_secret_value(SecretId="cordon/kept")["SecretString"] == "s"
    assert cloud.client("kms", "audit-writer").get_public_key(KeyId="alias/cordon-audit-signing")["PublicKey"]


def test_the_call_log_names_who_did_what_and_holds_no_body(cloud):
    reader = cloud.for_tenant("s3", "query", TENANT)
    cloud.for_tenant("s3", "ingest-worker", TENANT).put_object(Bucket="cordon-documents", Key=DOCUMENT, Body=b"canary-in-a-body")
    code_of(reader.put_object, Bucket="cordon-documents", Key=DOCUMENT, Body=b"x")
    *_, allowed, denied = cloud.calls_until(lambda last: last["identity"] == "query-tenant" and last["action"] == "s3:PutObject")
    assert (allowed["identity"], allowed["action"], allowed["allowed"], allowed["status"]) == ("ingest-worker-tenant", "s3:PutObject", True, 200)
    assert denied["resource"] == f"arn:aws:s3:::cordon-documents/{DOCUMENT}" and not denied["allowed"] and denied["status"] == 403
    assert "canary-in-a-body" not in (cloud.folder / "state/calls.jsonl").read_text()


def test_forty_callers_at_once_are_all_served(cloud):
    failures = []

    def work(n):
        try:
            s3 = cloud.for_tenant("s3", "ingest-worker", TENANT)
            for i in range(5):
                s3.put_object(Bucket="cordon-documents", Key=f"tenants/t-1/many/{n}-{i}", Body=b"x" * 1000)
        except Exception as error:  # noqa: BLE001 - reported by the assertion
            failures.append(error)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(40)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures
