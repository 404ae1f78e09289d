"""Every process x every AWS action of any process, really called: allowed exactly where its policy says so. That no policy
says more than its process does is tests/lint/privileges.sh's."""
import functools
import http.client
import json
import re
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


SECRET = re.compile(r":secret:(cordon/[a-z-]+/[a-z-]+)-[?]{6}$")
SECRETS = sorted({found.group(1) for file in IAM.glob("*.json") for s in json.loads(file.read_text())["Statement"]
                  for found in map(SECRET.search, as_list(s["Resource"])) if found})


def places(action):
    """Where an action may be tried: what its permission is narrowed to."""
    return [*BUCKETS] if action.startswith("s3:") else SECRETS if action == "secretsmanager:GetSecretValue" else \
        [None, "secrets_key_arn"] if action == "kms:Decrypt" else [None]


def covers(statement, place):
    resources = json.dumps(statement["Resource"])
    return f"${{{place}}}" in resources or f":secret:{place}-??????" in resources if place else "secrets_key_arn" not in resources


def granted(file):
    """(action, place)"""
    return {(action, place) for s in json.loads((IAM / file).read_text())["Statement"] for action in as_list(s["Action"])
            for place in places(action) if covers(s, place)}


MAY = {name: granted(f"{name}.json") for name in PROCESSES} | {name: granted(f"roles/{name}.json") for name in ROLES}


class Caller:
    """One identity's clients. What is not refused as AccessDenied got past the policy."""

    def __init__(self, cloud, who, key, blob, arns):
        self.cloud, self.who, self.key, self.blob, self.arns, self.bucket, self.place = cloud, who, key, blob, arns, None, None

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

    def read(self, secret):
        self.client("secretsmanager").get_secret_value(SecretId=self.arns[secret])

    def decrypt(self):
        """A tenant's key directly, the key of secrets only by reading one."""
        if self.place:
            return self.read(next(s for s in SECRETS if s.startswith(f"cordon/{self.who}/") or self.who not in " ".join(SECRETS)))
        return self.client("kms").decrypt(CiphertextBlob=self.blob, EncryptionContext=CONTEXT)

    def is_allowed(self, action, place):
        self.bucket, self.place = BUCKETS.get(place), place
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
    "kms:Decrypt": lambda c: c.decrypt(),
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
    "s3:PutObjectLegalHold": lambda c: c.client("s3").put_object_legal_hold(Bucket=c.bucket, Key=OWN, LegalHold={"Status": "OFF"}),
    "sts:AssumeRole": lambda c: c.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::123456789012:role/{c.who if c.who in ROLES else c.who + '-tenant'}", RoleSessionName="x2",
        Tags=[{"Key": "tenant_id", "Value": TENANT}]),
    "sts:TagSession": lambda c: CALLS["sts:AssumeRole"](c),
    "secretsmanager:GetSecretValue": lambda c: c.read(c.place),
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
    manager = cloud.client("secretsmanager", "tester")
    arns = {name: manager.create_secret(Name=name, SecretString="{}", KmsKeyId="alias/cordon-secrets")["ARN"] for name in SECRETS}
    return {who: Caller(cloud, who, key, blob, arns) for who in PROCESSES + ROLES}


# What each does in which bucket, said apart from the policies, so that a policy does not grow by itself: tests/lint/privileges.sh
# knows from the binaries what a process does at all, but not where.
USED = {
    "ingest-worker": {"document_bucket": "ListBucketMultipartUploads ListBucketVersions", "share_bucket": "ListBucketVersions"},
    "ingest-worker-tenant": {"document_bucket": "PutObject GetObject DeleteObject DeleteObjectVersion AbortMultipartUpload ListBucketVersions",
                             "share_bucket": "PutObject GetObject DeleteObject ListBucketVersions", "anchor_bucket": "GetObject"},
    "query-tenant": {"document_bucket": "GetObject", "share_bucket": "GetObject PutObject", "anchor_bucket": "GetObject"},
    "audit-writer": {"anchor_bucket": "PutObject PutObjectRetention PutObjectLegalHold GetObject ListBucket"},
}


@pytest.mark.parametrize("who", PROCESSES + ROLES)
def test_each_may_use_the_buckets_that_it_uses(who):
    used = {(f"s3:{action}", bucket) for bucket, actions in USED.get(who, {}).items() for action in actions.split()}
    assert {(action, place) for action, place in MAY[who] if action.startswith("s3:")} == used


def test_every_action_of_any_policy_is_tried():
    assert {action for may in MAY.values() for action, _ in may} == set(CALLS)


@pytest.mark.parametrize("who", PROCESSES + ROLES)
def test_each_may_do_what_its_policy_says_and_nothing_else(cloud, callers, who):
    caller, rescue = callers[who], cloud.client("kms", "tester")
    for action in CALLS:
        for place in places(action):
            if action == "kms:CancelKeyDeletion":
                rescue.schedule_key_deletion(KeyId=caller.key, PendingWindowInDays=30)
            assert caller.is_allowed(action, place) == ((action, place) in MAY[who]), (action, place)
            if action.endswith("KeyDeletion") and rescue.describe_key(KeyId=caller.key)["KeyMetadata"]["KeyState"] == "PendingDeletion":
                rescue.cancel_key_deletion(KeyId=caller.key)
            if action in ("kms:DisableKey", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"):
                rescue.enable_key(KeyId=caller.key)


def test_a_share_is_never_put_over_another(cloud, callers):
    for role in ROLES:
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            callers[role].client("s3").put_object(Bucket=BUCKETS["share_bucket"], Key=f"tenants/{TENANT}/new", Body=b"x")


def code_of(call):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    return caught.value.response["Error"]["Code"]


def test_the_key_of_secrets_serves_secrets_only(cloud, callers):
    """Nobody decrypts with it directly, not even with a secret's own context; and a secret under another key is out of reach."""
    context = {"SecretARN": callers["query"].arns["cordon/query/settings"]}
    blob = cloud.client("kms", "tester").encrypt(KeyId="alias/cordon-secrets", Plaintext=b"x", EncryptionContext=context)["CiphertextBlob"]
    for who in PROCESSES + ROLES:
        assert code_of(lambda: callers[who].client("kms").decrypt(CiphertextBlob=blob, EncryptionContext=context)) == "AccessDeniedException"
    tester = cloud.client("secretsmanager", "tester")
    arn = tester.create_secret(Name="cordon/query/settings-", SecretString="{}", KmsKeyId="alias/cordon-secrets")["ARN"]
    assert code_of(lambda: callers["query"].client("secretsmanager").get_secret_value(SecretId=arn)) == "AccessDeniedException"     # a name that begins so
    arn = callers["query"].arns["cordon/query/settings"]
    tester.update_secret(SecretId=arn, KmsKeyId=callers["query"].key)
    assert code_of(lambda: callers["query"].read("cordon/query/settings")) == "AccessDeniedException"
    tester.update_secret(SecretId=arn, KmsKeyId="alias/cordon-secrets")
    callers["query"].read("cordon/query/settings")


def test_a_secret_under_a_disabled_key_is_not_read(cloud, callers):
    kms = cloud.client("kms", "tester")
    key = kms.describe_key(KeyId="alias/cordon-secrets")["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    assert code_of(lambda: callers["auth"].read("cordon/auth/settings")) == "DecryptionFailure"
    kms.enable_key(KeyId=key)
    callers["auth"].read("cordon/auth/settings")
