"""Every way in which a process is given credentials, by the library of every process (tests/tools/aws_caller) and by a process itself,
against a stand-in that checks what AWS checks; renewed under load without a refused request; and never in a log."""
import base64
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
import uuid

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from conftest import REGION, Stack, free_port
from test_eventstream import TOOLS

ACCOUNT = "123456789012"
ISSUER, AUDIENCE, SUBJECT = "https://oidc.eks.example/id/1", "sts.amazonaws.com", "system:serviceaccount:cordon:query"
RELATIVE = f"/v2/credentials/{uuid.UUID(int=5)}"
TENANT, OTHER = str(uuid.UUID(int=7)), str(uuid.UUID(int=8))
POD_TOKEN = "pod-token-of-the-test"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Provider:
    """The cluster's OpenID provider."""

    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.pem = self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    def token(self, key=None, alg="RS256", **claims):
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "exp": int(time.time()) + 600, **claims}
        text = ".".join(encode(json.dumps(part).encode()) for part in ({"alg": alg, "kid": "1"}, claims))
        return f"{text}.{encode((key or self.key).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class Workload:
    """A stand-in with endpoints beside it, and a folder for what a workload is given."""

    def __init__(self, folder):
        self.folder, self.provider, self.beside = folder, Provider(), f"127.0.0.1:{free_port()}"
        self.given = {
            "listen": [self.beside],
            "container": {RELATIVE: {"role": "query"}},
            "pods": {POD_TOKEN: {"role": "query"}},
            "instance": {"role": "query"},
            "openid": {"issuer": ISSUER, "keys": {"1": self.provider.pem}},
            "trust": {"query": {"audience": AUDIENCE, "subject": SUBJECT, "external_id": "agreed"}},
        }
        self.save()
        self.cloud = Stack(folder, CLOUD_WORKLOADS=str(folder / "workloads.json"))
        s3 = self.cloud.client("s3", "tester")
        for tenant in (TENANT, OTHER):
            s3.put_object(Bucket="cordon-documents", Key=f"tenants/{tenant}/d", Body=b"x" * 1000)

    def save(self, **changed):
        (self.folder / "workloads.json").write_text(json.dumps({**self.given, **changed}))

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def environment(self, **settings):
        return {"AWS_REGION": REGION, "ENVIRONMENT": "development", "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL_STS": self.cloud.url + "/",
                "AWS_ENDPOINT_URL_S3": self.cloud.url, "CORDON_AWS_TENANT_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/query-tenant", **settings}

    def ask(self, settings, *words):
        return subprocess.run([str(TOOLS / "aws_caller"), *map(str, words)], env=self.environment(**settings), capture_output=True, text=True, timeout=60)

    def who(self, settings):
        done = self.ask(settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def reads(self, settings, tenant=TENANT, seconds=0, threads=1):
        """(good, bad), what was said of the first bad one."""
        done = self.ask(settings, f"cordon-documents/tenants/{tenant}/d", seconds, threads)
        good, bad = map(int, re.search(r"(\d+) good, (\d+) bad", done.stdout).groups())
        return good, bad, done.stderr

    # the sources

    def container(self):
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{self.beside}{RELATIVE}"}

    def pod(self, token=POD_TOKEN):
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{self.beside}/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": self.file("token", token + "\n")}

    def instance(self):
        return {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{self.beside}"}

    def web_identity(self, token=None, role="query"):
        return {"AWS_WEB_IDENTITY_TOKEN_FILE": self.file("web-token", token or self.provider.token()), "AWS_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/{role}",
                "AWS_ROLE_SESSION_NAME": "pod-1"}

    def profiles(self, profile, **role):
        key, secret = self.cloud.secrets["launcher"]
        lines = "".join(f"{name} = {value}\n" for name, value in role.items())
        return {"AWS_SHARED_CREDENTIALS_FILE": self.file("credentials", f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"),
                "AWS_CONFIG_FILE": self.file("config", f"[profile worker]\nsource_profile = default\n{lines}"), "AWS_PROFILE": profile}


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    made = Workload(tmp_path_factory.mktemp("workload"))
    yield made
    made.cloud.stop()


@pytest.fixture(autouse=True)
def as_it_was(workload):
    yield
    workload.save()


def session(name):
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/query/{name}"


QUERY_ROLE = {"role_arn": f"arn:aws:iam::{ACCOUNT}:role/query", "external_id": "agreed"}
SOURCES = {
    "container": (Workload.container, session("ecs-task")),
    "pod": (Workload.pod, session("eks-pod")),
    "instance": (Workload.instance, session("i-0123456789abcdef0")),
    "web_identity": (Workload.web_identity, session("pod-1")),
    "files": (lambda w: w.profiles("default"), f"arn:aws:iam::{ACCOUNT}:user/launcher"),
    "role of a profile": (lambda w: w.profiles("worker", **QUERY_ROLE), session("cordon")),
    "environment": (lambda w: dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), w.cloud.secrets["query"])), f"arn:aws:iam::{ACCOUNT}:user/query"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_each_source_gives_the_identity_that_it_should(workload, source):
    settings, arn = SOURCES[source]
    assert workload.who(settings(workload)) == arn


@pytest.mark.parametrize("source", ["container", "pod", "instance", "web_identity", "role of a profile"])
def test_a_session_takes_on_a_tenants_role_and_its_tag_is_what_counts(workload, source):
    """Role chaining: the workload's session, then the tenant's, tagged; S3 looks at the tag only."""
    settings = SOURCES[source][0](workload)
    good, bad, said = workload.reads(settings)
    assert good and not bad, said
    calls = workload.cloud.calls_until(lambda c: c["action"] == "s3:GetObject")
    assert {c["identity"] for c in calls if c["action"] == "s3:GetObject"} == {"query-tenant"}


def test_roles_are_chained_upon_whichever_source(workload):
    """Keys in a file, a role upon them, and the tenants' role upon that."""
    settings = {**workload.profiles("default"), "CORDON_AWS_ASSUME_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/ingest-worker",
                "CORDON_AWS_TENANT_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/ingest-worker-tenant"}
    assert workload.who(settings) == f"arn:aws:sts::{ACCOUNT}:assumed-role/ingest-worker/cordon"
    good, bad, said = workload.reads(settings)
    assert good and not bad, said


@pytest.fixture
def own_network():
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0:
        pytest.skip("no network namespace can be made here")
    return ["unshare", "-rn", "sh", "-c", "ip link set lo up && ip addr add 169.254.170.2/32 dev lo && exec \"$@\"", "sh"]


def test_a_relative_uri_is_asked_of_the_address_that_containers_know(workload, own_network, tmp_path):
    """169.254.170.2 is given to the loopback of a network of its own, with the stand-in and the caller in it."""
    workload.save(listen=["169.254.170.2:80"])
    script = tmp_path / "ask.py"
    script.write_text(f"""
import json, pathlib, subprocess, sys, time, urllib.request
gateway = subprocess.Popen(json.loads(sys.argv[1]), env=json.loads(sys.argv[2]))
for _ in range(800):
    try:
        urllib.request.urlopen("{workload.cloud.url}/health", timeout=1)
        break
    except OSError:
        time.sleep(0.05)
for uri in sys.argv[4:]:
    done = subprocess.run(["{TOOLS}/aws_caller"], env={{**json.loads(sys.argv[3]), "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": uri}}, capture_output=True, text=True)
    print(json.dumps([done.returncode, done.stdout, done.stderr]))
gateway.terminate()
gateway.wait()
""")
    command, env = workload.cloud.command()
    said = subprocess.run([*own_network, "/usr/bin/python3", script, json.dumps(list(map(str, command))), json.dumps(env),
                           json.dumps(workload.environment()), RELATIVE, "/v2/credentials/another", "v2/credentials"],
                          capture_output=True, text=True, timeout=60)
    right, wrong, not_a_path = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("[")]
    assert right[:2] == [0, session("ecs-task") + "\n"], right
    assert wrong[0] == 1 and "answers 400" in wrong[2], wrong
    assert not_a_path[0] == 1 and "begins with a slash" in not_a_path[2], not_a_path


# ---- what is refused

@pytest.mark.parametrize("what, settings, said", [       # the first is the test's name
    ("no token", lambda w: {**w.pod(), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": ""}, "answers 400"),
    ("another's token", lambda w: w.pod("another"), "answers 400"),
    ("a token file that is not there", lambda w: {**w.pod(), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nowhere"}, "cannot be read"),
    ("a token of somebody else", lambda w: w.web_identity(w.provider.token(sub="system:serviceaccount:other:query")), "AccessDenied"),
    ("a token for somebody else", lambda w: w.web_identity(w.provider.token(aud="https://other.example")), "AccessDenied"),
    ("a token that is over", lambda w: w.web_identity(w.provider.token(exp=int(time.time()) - 60)), "ExpiredTokenException"),
    ("a token of another provider", lambda w: w.web_identity(w.provider.token(key=Provider().key)), "InvalidIdentityToken"),
    ("a token for another role", lambda w: w.web_identity(role="ingest-worker"), "AccessDenied"),
    ("a role that wants an external id", lambda w: w.profiles("worker", **{**QUERY_ROLE, "external_id": "guessed"}), "AccessDenied"),
    ("a wrong secret", lambda w: {"AWS_ACCESS_KEY_ID": w.cloud.secrets["query"][0], "AWS_SECRET_ACCESS_KEY": "x" * 40}, "SignatureDoesNotMatch"),
], ids=lambda value: value if isinstance(value, str) else "-")
def test_what_aws_would_refuse_is_refused_and_told(workload, what, settings, said):
    done = workload.ask(settings(workload))
    assert done.returncode == 1 and said in done.stderr, done.stderr


def test_an_instance_gives_nothing_without_its_token(workload):
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://{workload.beside}/latest/meta-data/iam/security-credentials/")


def test_a_chained_session_lasts_an_hour_at_most_and_tags_are_checked(workload):
    sts = workload.cloud.client("sts", "launcher")
    first = sts.assume_role(RoleArn=QUERY_ROLE["role_arn"], RoleSessionName="x2", ExternalId="agreed", DurationSeconds=7200)["Credentials"]
    chained = workload.cloud.session_client("sts", first)
    role = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/query-tenant", "RoleSessionName": "x2"}
    tag = [{"Key": "tenant_id", "Value": TENANT}]
    for wrong, code in (({"DurationSeconds": 7200, "Tags": tag}, "ValidationError"), ({}, "AccessDenied"),
                        ({"Tags": [{"Key": "other", "Value": "1"}]}, "AccessDenied"), ({"Tags": tag + [{"Key": "Tenant_Id", "Value": "2"}]}, "InvalidParameterValue")):
        with pytest.raises(sts.exceptions.ClientError) as caught:
            chained.assume_role(**role, **wrong)
        assert caught.value.response["Error"]["Code"] == code, wrong
    made = workload.cloud.session_client("s3", chained.assume_role(**role, Tags=tag)["Credentials"])
    made.get_object(Bucket="cordon-documents", Key=f"tenants/{TENANT}/d")
    with pytest.raises(sts.exceptions.ClientError, match="AccessDenied"):
        made.get_object(Bucket="cordon-documents", Key=f"tenants/{OTHER}/d")


# ---- renewal

def test_credentials_are_renewed_ahead_of_their_end_under_load_without_a_refused_request(workload):
    """They last 5 s here, eight threads read for 6 s; the stand-in refuses what is signed with a session that is over."""
    workload.save(container={RELATIVE: {"role": "tester", "seconds": 5}})
    before = len(workload.cloud.calls_until(lambda call: True))
    good, bad, said = workload.reads({**workload.container(), "CORDON_AWS_TENANT_ROLE_ARN": ""}, seconds=6, threads=8)
    assert good > 50 and not bad, said
    calls = workload.cloud.calls_until(lambda call: call["service"] == "s3")[before:]
    assert {call["status"] for call in calls} == {200}
    assert 2 <= sum(call["service"] == "workload" for call in calls) <= 8, "by one thread, each a little ahead of the end of the one before it"


# ---- a process

WORKER = TOOLS.parents[1] / "services/embedding-worker/cordon-embedding-worker"
KEY = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"     # of libzmq's own examples


def run_until_it_has_started(env, and_then=lambda: True):
    """(exit status, what it said); ended by SIGTERM once it says that it has started, and then something else came true."""
    process = subprocess.Popen([str(WORKER)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    for line in process.stdout:
        said.append(line)
        if '"event":"started"' in line.replace(" ", ""):
            until = time.monotonic() + 20
            while not and_then() and time.monotonic() < until:
                time.sleep(0.05)
            process.terminate()
    return process.wait(30), "".join(said)


@pytest.mark.parametrize("source", ["container", "pod", "instance", "web_identity"])
def test_a_process_starts_as_its_workload_and_says_no_secret(workload, source):
    """Confined as every process is, it renews what it was given, and asks its model in its own name."""
    workload.save(**{name: json.loads(json.dumps(workload.given[name]).replace('"query"', '"embedding-worker", "seconds": 3'))
                     for name in ("container", "pods", "instance")}, trust={"embedding-worker": workload.given["trust"]["query"]})
    before = len(workload.cloud.calls_until(lambda call: True))

    def calls(**wanted):
        lines = (workload.folder / "state/calls.jsonl").read_text().splitlines()[before:]
        return [call for call in map(json.loads, lines) if all(call.get(name) == value for name, value in wanted.items())]
    settings = workload.web_identity(role="embedding-worker") if source == "web_identity" else SOURCES[source][0](workload)
    env = {**workload.environment(**settings), "LOG_LEVEL": "debug", "CORDON_CURVE_SECRET_KEY": KEY, "CORDON_BUS_LISTEN": f"tcp://127.0.0.1:{free_port()}",
           "CORDON_METRICS_LISTEN": "", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": workload.cloud.url, "CORDON_AWS_TENANT_ROLE_ARN": "",
           "CORDON_AUDIT_WRITER_ENDPOINTS": "tcp://127.0.0.1:9",
           **{f"CORDON_{peer}_PUBLIC_KEY": f"0000{n}w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{{hID" for n, peer in enumerate(("INGEST_WORKER", "QUERY", "AUDIT_WRITER"))}}
    given = 1 if source == "web_identity" else 2            # STS gives for 15 minutes at least
    status, said = run_until_it_has_started(env, lambda: calls(service="bedrock") and len(calls(identity="embedding-worker", service="workload")
                                            + calls(identity="embedding-worker", action="sts:AssumeRoleWithWebIdentity")) >= given)
    assert status == 0 and "started" in said, said
    assert {call["identity"] for call in calls(service="bedrock")} == {"embedding-worker"}
    secrets = [POD_TOKEN, "ASIA", base64.urlsafe_b64encode(b'["embedding-worker"').decode()[:20], workload.provider.token().split(".")[0]]
    assert not [secret for secret in secrets if secret in said], "no access key, no token"
    assert not re.search(r"(?<![0-9A-Za-z+/])[0-9A-Za-z+/]{43}=", said), "and no secret key, which is 44 characters of base64"
    status, said = run_until_it_has_started({**env, "CORDON_AWS_IDENTITY": "query"})
    assert status == 1 and "assumed-role/embedding-worker" in said and "not query" in said, said
