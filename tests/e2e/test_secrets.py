"""Settings whose values are in Secrets Manager: a stack that has them from there, a password that changes under load, and
starts that are refused."""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time
import urllib.parse

import boto3
import pytest
import requests

from conftest import STATE, wait_for
from pulse import failures

# process -> {secret: {JSON key: setting}}; database URLs stay settings, without their password, which is named.
NAMED = {
    "auth": {"database": {"password": "DATABASE_PASSWORD"},
             "settings": {"curve": "CORDON_CURVE_SECRET_KEY", "directory": "CORDON_DIRECTORY_KEY", "oidc": "OIDC_CLIENT_SECRET"}},
    "ingest-worker": {"database": {"password": "DATABASE_PASSWORD"}, "jobs-database": {"password": "CORDON_JOBS_DATABASE_PASSWORD"},
                      "settings": {"curve": "CORDON_CURVE_SECRET_KEY"}},
    "embedding-worker": {"settings": {"curve": "CORDON_CURVE_SECRET_KEY"}},
    "query": {"database": {"url": "DATABASE_URL"}, "audit-database": {"password": "CORDON_AUDIT_DATABASE_PASSWORD"},
              "settings": {"curve": "CORDON_CURVE_SECRET_KEY"}},
    "audit-writer": {"database": {"password": "DATABASE_PASSWORD"},
                     "settings": {"curve": "CORDON_CURVE_SECRET_KEY", "checkpoint": "CORDON_CHECKPOINT_KEY"}},
}
PASSWORD = re.compile(r"(?<=:)[^:@/]+(?=@)")


def variable(setting):
    return setting + ("_ARN" if setting.endswith("_SECRET") else "_SECRET_ARN")


class Manager:
    """Secrets Manager, as an operator has it, and a stack's settings."""

    def __init__(self, stack):
        cloud = stack.info["cloud"]
        self.client = boto3.client("secretsmanager", endpoint_url=cloud["url"], region_name=cloud["region"],
                                   aws_access_key_id=cloud["access_key_id"], aws_secret_access_key=cloud["secret_access_key"])
        self.arns, self.values = {}, {}

    def folder(self, process):
        return STATE / "secrets" / process

    def value(self, process, setting):
        """As the settings have it; a password out of its URL."""
        if not setting.endswith("_PASSWORD"):
            return (self.folder(process) / setting).read_text().rstrip("\n")
        url = self.folder(process) / setting.replace("_PASSWORD", "_URL")
        text = url.read_text()
        url.write_text(re.sub(r":[^:@/]+@", "@", text))
        return PASSWORD.search(text).group(0)

    def move(self, process, secret, keys):
        """Settings into a secret of that name, and its ARN where they were."""
        name = f"cordon/{process}/{secret}"
        values = {key: self.value(process, setting) for key, setting in keys.items()}
        made = self.client.create_secret(Name=name, SecretString=json.dumps(values), KmsKeyId="alias/cordon-secrets")
        self.arns[name], self.values[name] = made["ARN"], values
        for key, setting in keys.items():
            (self.folder(process) / setting).unlink(missing_ok=True)
            (self.folder(process) / variable(setting)).write_text(f"{made['ARN']}:{key}::\n")

    def pending(self, name, **values):
        """A rotation begins: the new version is there, and nobody is told yet. -> (its id, the current one's)"""
        current = self.client.get_secret_value(SecretId=self.arns[name], VersionStage="AWSCURRENT")["VersionId"]
        new = self.client.put_secret_value(SecretId=self.arns[name], SecretString=json.dumps({**self.values[name], **values}),
                                           VersionStages=["AWSPENDING"])["VersionId"]
        return new, current

    def finish(self, name, new, current):
        self.client.update_secret_version_stage(SecretId=self.arns[name], VersionStage="AWSCURRENT", MoveToVersionId=new, RemoveFromVersionId=current)
        self.client.update_secret_version_stage(SecretId=self.arns[name], VersionStage="AWSPENDING", RemoveFromVersionId=new)


@pytest.fixture(scope="module")
def manager(stack):
    """The stack, each process of which has its secrets by name only; its files are put back in the end, for its next start."""
    manager, kept = Manager(stack), STATE / "secrets-before"
    shutil.copytree(STATE / "secrets", kept, ignore=shutil.ignore_patterns(".made"))
    try:
        for process, secrets in NAMED.items():
            for secret, keys in secrets.items():
                manager.move(process, secret, keys)
            stack.cordon("restart", process)
        wait_for("ready", stack.is_ready)
        yield manager
    finally:
        for process in NAMED:
            shutil.rmtree(manager.folder(process))
            shutil.copytree(kept / process, manager.folder(process))
        shutil.rmtree(kept)


def test_a_stack_lives_on_secrets_that_are_only_named(stack, manager):
    document = stack.ingest(b"The dog is called Amphitrite and is in good health.")
    answer = stack.call("POST", "/api/v1/query", json={"question": "What is the dog called?"})
    assert answer.status_code == 200 and "Amphitrite" in answer.text
    assert stack.call("GET", f"/api/v1/documents/{document['id']}/content").status_code == 200
    said = "".join(pathlib.Path(process["log"]).read_text() for process in stack.info["processes"].values())
    for name, values in manager.values.items():
        process = name.split("/")[1]
        environment = pathlib.Path(f"/proc/{stack.pid(process)}/environ").read_bytes()
        for value in values.values():
            assert value not in said and value.encode() not in environment
            assert not any(value in file.read_text() for file in manager.folder(process).iterdir())
    calls = [json.loads(line) for line in (pathlib.Path(stack.info["cloud"]["state"]) / "calls.jsonl").read_text().splitlines()]
    read = {(call["identity"], call["resource"]) for call in calls if call["action"] == "secretsmanager:GetSecretValue"}
    assert read == {(name.split("/")[1], arn) for name, arn in manager.arns.items()}


def test_a_password_is_rotated_under_load_without_a_refusal_or_a_restart(stack, manager, pulse):
    """As AWS's own rotation does it: the database is told before AWSCURRENT moves, and both have the new one then."""
    name, pid = "cordon/query/database", stack.pid("query")
    url = manager.values[name]["url"]
    over, answered, token = threading.Event(), [], stack.token()

    def ask():
        while not over.is_set():
            began = time.time()
            answer = stack.call("GET", "/api/v1/documents", token=token)
            answered.append((began, time.time(), answer))

    def connections(database):
        with database.cursor() as cursor:
            cursor.execute("SELECT array_agg(pid) FROM pg_stat_activity WHERE usename = 'cordon_query' AND backend_type = 'client backend'")
            return set(cursor.fetchone()[0] or [])

    def set_password(database, text):
        with database.cursor() as cursor:
            cursor.execute("ALTER ROLE cordon_query PASSWORD %s", (text,))

    def idle_ones_end(database):
        """So that all are new; nobody asks meanwhile."""
        with database.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cordon_query'")
        wait_for("connections gone", lambda: not connections(database), 10)

    old = PASSWORD.search(url).group(0)
    with stack.database() as database, concurrent.futures.ThreadPoolExecutor(8) as threads:
        try:
            for password in ("a-new-password-of-this-test", old):
                over.clear()
                idle_ones_end(database)
                asking = [threads.submit(ask)]
                before = wait_for("a first connection", lambda: connections(database), 10)
                new, current = manager.pending(name, url=PASSWORD.sub(password, url))
                set_password(database, password)
                asking += [threads.submit(ask) for _ in range(7)]       # who need connections more
                wait_for("another connection, by AWSPENDING", lambda: connections(database) - before, 20)
                manager.finish(name, new, current)
                so_far = len(answered)
                wait_for("answers after the rotation", lambda: len(answered) >= so_far + 40, 60)
                over.set()
                assert concurrent.futures.wait(asking, 60).done == set(asking)
                refused = failures(pulse, answered) + [one.exception() for one in asking if one.exception()]
                assert not refused, refused[:3]
                idle_ones_end(database)
                assert stack.call("GET", "/api/v1/documents", token=token).status_code == 200      # by AWSCURRENT
        finally:
            over.set()
            set_password(database, old)
        assert urllib.parse.urlsplit(url).password == old
    assert stack.pid("query") == pid


# what is named -> (what the start says of it); values of query's settings, "{arn}" its own secret's ARN
REFUSED = {
    "missing": ({"CORDON_CURVE_SECRET_KEY_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:cordon/query/settings-abcdef"},
                "CORDON_CURVE_SECRET_KEY_SECRET_ARN", "ResourceNotFoundException"),
    "another's": ({"CORDON_CURVE_SECRET_KEY_SECRET_ARN": "{cordon/auth/settings}:curve::"}, "CORDON_CURVE_SECRET_KEY_SECRET_ARN", "AccessDeniedException"),
    "empty": ({"CORDON_CURVE_SECRET_KEY_SECRET_ARN": "{cordon/query/settings}:curve:EMPTY:"}, "CORDON_CURVE_SECRET_KEY_SECRET_ARN", "the secret is empty"),
    "no such key": ({"CORDON_CURVE_SECRET_KEY_SECRET_ARN": "{cordon/query/settings}:other"}, "CORDON_CURVE_SECRET_KEY_SECRET_ARN", "the key 'other'"),
    "no JSON": ({"CORDON_CURVE_SECRET_KEY_SECRET_ARN": "{cordon/query/settings}:curve:SPOILT"}, "CORDON_CURVE_SECRET_KEY_SECRET_ARN", "no JSON object"),
    "too long": ({"CORDON_CURVE_SECRET_KEY_SECRET_ARN": "{cordon/query/settings}"}, "CORDON_CURVE_SECRET_KEY_SECRET_ARN", "needs 40 to 40 bytes"),
    "both": ({"CORDON_CURVE_SECRET_KEY": "k" * 40}, "CORDON_CURVE_SECRET_KEY", "both set"),
    "no ARN": ({"DATABASE_URL_SECRET_ARN": "cordon/query/database"}, "DATABASE_URL_SECRET_ARN", "needs arn:aws:secretsmanager"),
    "elsewhere": ({"DATABASE_URL_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:cordon/query/database-abcdef"},
                  "DATABASE_URL_SECRET_ARN", "not in AWS_REGION"),
    "no such version": ({"DATABASE_URL_SECRET_ARN": "{cordon/query/database}:url:AWSNOTHING:"}, "DATABASE_URL_SECRET_ARN", "ResourceNotFoundException"),
    "somebody else": ({"CORDON_AWS_IDENTITY": "auth"}, "user/query", "not auth"),
    "of the credentials": ({"AWS_SECRET_ACCESS_KEY": "", "AWS_SECRET_ACCESS_KEY_SECRET_ARN": "{cordon/query/settings}:curve"}, "AWS_SECRET_ACCESS_KEY", "belong together"),
}


def start(process, settings):
    """Run it until it ends. -> (exit status, what it said)"""
    settings = {name: value for name, value in settings.items() if value}
    done = subprocess.run([STATE / "bin" / f"cordon-{process}"], env=settings, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def settings(manager):
    """A process's, as files have them; query's secret has other versions, which nobody reads who does not name them."""
    def read(process="query"):
        return {file.name: file.read_text().rstrip("\n") for file in manager.folder(process).iterdir()}
    for stage, text in (("EMPTY", '{"curve": ""}'), ("SPOILT", "no JSON")):
        manager.client.put_secret_value(SecretId=manager.arns["cordon/query/settings"], SecretString=text, VersionStages=[stage])
    return read


@pytest.mark.parametrize("case", REFUSED)
def test_a_start_is_refused_by_the_setting_s_name_and_aws_s_code(manager, settings, case):
    changed, setting, says = REFUSED[case]
    for name, arn in manager.arns.items():
        changed = {variable: value.replace("{" + name + "}", arn) for variable, value in changed.items()}
    status, said = start("query", {**settings(), **changed})
    assert status == 1 and setting in said and says in said, said
    for values in manager.values.values():
        assert not any(value in said for value in values.values())


def test_the_edge_asks_nobody_for_its_secrets(settings):
    given = settings("edge")
    given["CORDON_CURVE_SECRET_KEY_SECRET_ARN"] = "arn:aws:secretsmanager:us-east-1:123456789012:secret:cordon/edge/settings-abcdef"
    del given["CORDON_CURVE_SECRET_KEY"]
    status, said = start("edge", given)
    assert status == 1 and "asks no Secrets Manager" in said, said


def test_a_key_that_is_disabled_refuses_the_start(stack, manager, settings):
    cloud = stack.info["cloud"]
    kms = boto3.client("kms", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=cloud["access_key_id"],
                       aws_secret_access_key=cloud["secret_access_key"])
    key = kms.describe_key(KeyId="alias/cordon-secrets")["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    try:
        status, said = start("query", settings())
    finally:
        kms.enable_key(KeyId=key)
    assert status == 1 and "DecryptionFailure" in said and "_SECRET_ARN" in said, said


def control(stack, *rules, **switches):
    requests.post(f"{stack.info['cloud']['url']}/_control", json={"rules": rules, **switches}, timeout=10).raise_for_status()


def readings(stack, outcome):
    text = requests.get(stack.info["processes"]["query"]["metrics"] + "/metrics", timeout=10).text
    return float(re.search(rf'cordon_secrets_reads_total\{{outcome="{outcome}"\}} (\S+)', text).group(1))


FAILURES = ("throttle", "error500", "error503", "hang", "reset", "cut", "ok_error", "ok_empty", "expired", "denied", "skewed")


@pytest.mark.parametrize("kinds", [FAILURES] if os.environ.get("CORDON_TEST_LONG") else [("error500", "ok_error", "denied")])
def test_while_secrets_manager_fails_nobody_notices(stack, manager, kinds):
    """It is asked by a query that reads its secrets again each second; the questions of users do not wait for it."""
    (manager.folder("query") / "CORDON_SECRETS_REREAD_S").write_text("1\n")
    stack.cordon("restart", "query")
    wait_for("ready", stack.is_ready)
    pid = stack.pid("query")
    try:
        for kind in kinds:
            failed, same = readings(stack, "failed"), readings(stack, "same")
            control(stack, {"service": "secretsmanager", "identity": "query", "kind": kind, "bytes": 20})
            wait_for(f"a reading that failed: {kind}", lambda: readings(stack, "failed") > failed, 60)
            assert stack.call("GET", "/api/v1/documents").status_code == 200, kind
            control(stack)
            wait_for(f"a reading after {kind}", lambda: readings(stack, "same") > same, 30)
        for ahead_s in (1200, -1200):
            failed, same = readings(stack, "failed"), readings(stack, "same")
            control(stack, clock_ahead_s=ahead_s)
            wait_for("a reading at another time", lambda: readings(stack, "same") > same, 30)
            assert readings(stack, "failed") == failed
    finally:
        control(stack)
    assert stack.pid("query") == pid


@pytest.mark.parametrize("service,operation", [("secretsmanager", "GetSecretValue"), ("sts", "GetCallerIdentity")])
def test_a_start_outlives_one_failure_and_is_refused_by_many(stack, settings, service, operation):
    try:
        control(stack, {"service": service, "identity": "query", "operation": operation, "kind": "error500"})
        status, said = start("query", settings())
        assert status == 1 and operation in said and ("_SECRET_ARN" in said or service == "sts"), said
        control(stack, {"service": service, "identity": "query", "operation": operation, "kind": "error500", "times": 1})
        status, said = start("query", {**settings(), "CORDON_REQUIRE_HARDENING": "nothing_of_that_name"})   # which is checked afterwards
        assert status == 1 and "nothing_of_that_name" in said, said
    finally:
        control(stack)


@pytest.mark.parametrize("process", NAMED)
def test_nobody_starts_as_somebody_else(manager, process):
    """Also one whose secrets are given, after it has asked its database."""
    given = {file.name: file.read_text().rstrip("\n") for file in (STATE / "secrets-before" / process).iterdir()}
    status, said = start(process, {**given, "CORDON_AWS_IDENTITY": "tester"})
    assert status == 1 and f"user/{process}, not tester" in said, said
