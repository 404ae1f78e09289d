"""Every process x every AWS action of any process, really called: allowed exactly where its policy says so. That no policy
says more than its process does is tests/lint/privileges.sh's."""
import functools
import http.client
import json
import uuid

import botocore.exceptions
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from conftest import ROOT

IAM, TENANT = ROOT / "terraform/iam", str(uuid.UUID(int=7))
BUCKETS = {"document_bucket": "cordon-documents", "share_bucket": "cordon-shares", "anchor_bucket": "cordon-anchor"}
OWN, CONTEXT = f"tenants/{TENANT}/d", {"tenant_id": TENANT, "purpose": "data"}
SIGNING, TITAN, CLAUDE = "alias/cordon-audit-signing", "amazon.titan-embed-text-v2:0", "anthropic.claude-3-5-sonnet-20240620-v1:0"
PROCESSES = sorted(file.stem for file in IAM.glob("*.json"))
ROLES = sorted(file.stem for file in (IAM / "roles").glob("*.json"))


def as_list(value):
    return value if isinstance(value, list) else [value]


def granted(file):
    """(action, bucket) for S3, (action, None) for the rest."""
    return {(action, bucket if action.startswith("s3:") else None)
            for s in json.loads((IAM / file).read_text())["Statement"] for action in as_list(s["Action"])
            for bucket in BUCKETS if not action.startswith("s3:") or f"${{{bucket}}}" in json.dumps(s["Resource"])}


MAY = {name: granted(f"{name}.json") for name in PROCESSES} | {name: granted(f"roles/{name}.json") for name in ROLES}


class Caller:
    """One identity's clients. What is not refused as AccessDenied got past the policy."""

    def __init__(self, cloud, who, key, blob):
        self.cloud, self.who, self.key, self.blob, self.bucket = cloud, who, key, blob, None

    @functools.cached_property
    def session(self):
        return self.cloud.credentials_for_tenant(self.who.removesuffix("-tenant"), TENANT) if self.who in ROLES else None

    @functools.lru_cache(maxsize=None)
    def client(self, service):
        return self.cloud.session_client(service, self.session) if self.session else self.cloud.client(service, self.who)

    def put_new(self):
        """As shares are put: never over another."""
        s3 = self.client("s3")
        add = lambda request, **_: request.headers.add_header("If-None-Match", "*")
        s3.meta.events.register("before-sign.s3.PutObject", add)
        try:
            s3.put_object(Bucket=self.bucket, Key=f"tenants/{TENANT}/{uuid.uuid4()}", Body=b"x")
        finally:
            s3.meta.events.unregister("before-sign.s3.PutObject", add)

    def abort_upload(self):
        begun = self.cloud.client("s3", "tester").create_multipart_upload(Bucket=self.bucket, Key=OWN)["UploadId"]
        self.client("s3").abort_multipart_upload(Bucket=self.bucket, Key=OWN, UploadId=begun)

    def model(self, operation, model, body=b'{"inputText":"x"}'):
        self.bedrock("POST", f"/model/{model.replace(':', '%3A')}/{operation}", body, operation)

    def bedrock(self, method, path, body, operation):
        made = self.session
        credentials = Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]) if made else Credentials(*self.cloud.secrets[self.who])
        request = AWSRequest(method, self.cloud.url + path, data=body, headers={"Content-Type": "application/json"})
        SigV4Auth(credentials, "bedrock", "us-east-1").add_auth(request)
        connection = http.client.HTTPConnection("127.0.0.1", self.cloud.port, timeout=20)
        connection.request(method, path, body, dict(request.headers))
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        if reply.status == 403 and b"not authorized to perform" in text:
            raise botocore.exceptions.ClientError({"Error": {"Code": "AccessDeniedException"}}, operation)

    def is_allowed(self, action, bucket):
        self.bucket = BUCKETS.get(bucket)
        try:
            CALLS[action](self)
            return True
        except botocore.exceptions.ClientError as error:
            return error.response["Error"]["Code"] not in ("AccessDenied", "AccessDeniedException")


CALLS = {
    "kms:CreateKey": lambda c: c.client("kms").create_key(Tags=[{"TagKey": "cordon", "TagValue": "tenant-key"}]),
    "kms:TagResource": lambda c: c.client("kms").create_key(Tags=[{"TagKey": "cordon", "TagValue": "tenant-key"}]),
    "kms:CreateAlias": lambda c: c.client("kms").create_alias(AliasName=f"alias/cordon/{uuid.uuid4()}", TargetKeyId=c.key),
    "kms:DescribeKey": lambda c: c.client("kms").describe_key(KeyId=c.key),
    "kms:GenerateDataKeyWithoutPlaintext": lambda c: c.client("kms").generate_data_key_without_plaintext(
        KeyId=c.key, KeySpec="AES_256", EncryptionContext=CONTEXT),
    "kms:Decrypt": lambda c: c.client("kms").decrypt(CiphertextBlob=c.blob, EncryptionContext=CONTEXT),
    "kms:Sign": lambda c: c.client("kms").sign(KeyId=SIGNING, Message=bytes(32), MessageType="RAW", SigningAlgorithm="ECDSA_SHA_256"),
    "kms:GetPublicKey": lambda c: c.client("kms").get_public_key(KeyId=SIGNING),
    "kms:DisableKey": lambda c: c.client("kms").disable_key(KeyId=c.key),
    "kms:EnableKey": lambda c: c.client("kms").enable_key(KeyId=c.key),
    "kms:ScheduleKeyDeletion": lambda c: c.client("kms").schedule_key_deletion(KeyId=c.key, PendingWindowInDays=30),
    "kms:CancelKeyDeletion": lambda c: c.client("kms").cancel_key_deletion(KeyId=c.key),
    "kms:ListKeys": lambda c: c.client("kms").list_keys(),
    "kms:ListAliases": lambda c: c.client("kms").list_aliases(),
    "kms:ListResourceTags": lambda c: c.client("kms").list_resource_tags(KeyId=c.key),
    "s3:PutObject": lambda c: c.put_new(),
    "s3:GetObject": lambda c: c.client("s3").get_object(Bucket=c.bucket, Key=OWN),
    "s3:DeleteObject": lambda c: c.client("s3").delete_object(Bucket=c.bucket, Key=OWN),
    "s3:DeleteObjectVersion": lambda c: c.client("s3").delete_object(Bucket=c.bucket, Key=OWN, VersionId=str(uuid.uuid4())),
    "s3:AbortMultipartUpload": lambda c: c.abort_upload(),
    "s3:ListBucket": lambda c: c.client("s3").list_objects_v2(Bucket=c.bucket),
    "s3:ListBucketVersions": lambda c: c.client("s3").list_object_versions(Bucket=c.bucket, Prefix=f"tenants/{TENANT}/" if c.who in ROLES else "tenants/"),
    "s3:ListBucketMultipartUploads": lambda c: c.client("s3").list_multipart_uploads(Bucket=c.bucket),
    "s3:PutObjectRetention": lambda c: c.client("s3").put_object(
        Bucket=c.bucket, Key=f"kept/{uuid.uuid4()}", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate="2040-01-01T00:00:00Z"),
    "sts:AssumeRole": lambda c: c.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::123456789012:role/{c.who if c.who in ROLES else c.who + '-tenant'}", RoleSessionName="x2",
        Tags=[{"Key": "tenant_id", "Value": TENANT}]),
    "sts:TagSession": lambda c: CALLS["sts:AssumeRole"](c),
    "bedrock:InvokeModel": lambda c: c.model("invoke", TITAN),
    "bedrock:InvokeModelWithResponseStream": lambda c: c.model("converse-stream", CLAUDE),
    "bedrock:ApplyGuardrail": lambda c: c.model("converse-stream", CLAUDE, b'{"guardrailConfig":{"guardrailIdentifier":"g1"}}'),
    "bedrock:GetInferenceProfile": lambda c: c.bedrock("GET", "/inference-profiles/us." + CLAUDE.replace(":", "%3A"), b"", "GetInferenceProfile"),
    "bedrock:GetModelInvocationLoggingConfiguration": lambda c: c.bedrock("GET", "/logging/modelinvocations", b"", "GetModelInvocationLogging"),
}


@pytest.fixture(scope="module")
def callers(cloud):
    """Everybody, with one tenant's key and blob, and an object in each bucket."""
    kms = cloud.client("kms", "auth")
    key = kms.create_key(Tags=[{"TagKey": "cordon", "TagValue": "tenant-key"}])["KeyMetadata"]["KeyId"]
    blob = kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256", EncryptionContext=CONTEXT)["CiphertextBlob"]
    for bucket in BUCKETS.values():
        cloud.client("s3", "tester").put_object(Bucket=bucket, Key=OWN, Body=b"x")
    return {who: Caller(cloud, who, key, blob) for who in PROCESSES + ROLES}


def test_every_action_of_any_policy_is_tried():
    assert {action for may in MAY.values() for action, _ in may} == set(CALLS)


@pytest.mark.parametrize("who", PROCESSES + ROLES)
def test_each_may_do_what_its_policy_says_and_nothing_else(cloud, callers, who):
    caller, rescue = callers[who], cloud.client("kms", "tester")
    for action in CALLS:
        for bucket in BUCKETS if action.startswith("s3:") else [None]:
            if action == "kms:CancelKeyDeletion":
                rescue.schedule_key_deletion(KeyId=caller.key, PendingWindowInDays=30)
            assert caller.is_allowed(action, bucket) == ((action, bucket) in MAY[who]), (action, bucket)
            if action.endswith("KeyDeletion") and rescue.describe_key(KeyId=caller.key)["KeyMetadata"]["KeyState"] == "PendingDeletion":
                rescue.cancel_key_deletion(KeyId=caller.key)
            if action in ("kms:DisableKey", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"):
                rescue.enable_key(KeyId=caller.key)


def test_a_share_is_never_put_over_another(cloud, callers):
    for role in ROLES:
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            callers[role].client("s3").put_object(Bucket=BUCKETS["share_bucket"], Key=f"tenants/{TENANT}/new", Body=b"x")
