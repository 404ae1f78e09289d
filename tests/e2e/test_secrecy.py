"""No PHI and no secret where it does not belong: on disk, in logs, in other processes' hands."""
import os
import pathlib
import random
import subprocess

import boto3
import botocore
import pytest

from conftest import PROCESSES, STATE

# Made anew for each run: no source file, log of an earlier run or editor's copy holds it.
CANARY = " ".join("".join(random.choices("bcdfghjklmnpqrstvwxz", k=12)).capitalize() for _ in range(3))
DATABASE_PROCESSES = {"auth": "cordon_auth", "ingest-worker": "cordon_ingest", "query": "cordon_query", "audit-writer": "cordon_audit"}


def files_with(folder, *needles):
    done = subprocess.run(["grep", "-rlaF", *(word for needle in needles for word in ("-e", needle)), "--", str(folder)], capture_output=True, text=True)
    return [f for f in done.stdout.splitlines() if "/proc/" not in f]


def test_a_canary_is_found_nowhere_on_disk(stack):
    body = f"Canary note. The code phrase of this visit is {CANARY}. Blood pressure stable.\n".encode()
    document = stack.ingest(body, name=f"{CANARY}.txt")
    stack.call("POST", "/api/v1/search", json={"question": f"What is {CANARY}?"})
    answer = stack.call("POST", "/api/v1/query", json={"question": "What is the code phrase of this visit?"})
    assert CANARY in answer.text
    assert CANARY.encode() in stack.call("GET", f"/api/v1/documents/{document['id']}/content").content
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("CHECKPOINT")
    for folder in (STATE, "/tmp", "/dev/shm"):
        assert files_with(folder, *CANARY.split()) == [], folder


def memory_of(pid):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            low, high = (int(x, 16) for x in line.split()[0].split("-"))
            if "r" not in line.split()[1] or "[vvar" in line or "[vsyscall" in line:
                continue
            try:
                mem.seek(low)
                yield mem.read(high - low)
            except (OSError, ValueError, OverflowError):
                continue


def secrets_of(stack, process):
    folder = STATE / "secrets" / process
    return {name.name: name.read_text().rstrip("\n") for name in folder.iterdir() if name.is_file()}


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory needs root")
def test_the_edge_holds_no_database_or_aws_secret(stack):
    stack.call("GET", "/api/v1/documents")
    pid = stack.pid("edge")
    foreign = []
    for process in PROCESSES:
        for name, value in secrets_of(stack, process).items():
            if process != "edge" and (name in ("AWS_SECRET_ACCESS_KEY", "CORDON_CURVE_SECRET_KEY") or name.endswith("DATABASE_URL")):
                foreign.append((process, name, value.encode()))
    assert len(foreign) >= 10
    names = set(secrets_of(stack, "edge"))
    assert not {n for n in names if "DATABASE" in n or n.startswith("AWS_")}
    blocks = list(memory_of(pid))
    assert sum(map(len, blocks)) > 1 << 20
    own = secrets_of(stack, "edge")["CORDON_QUERY_PUBLIC_KEY"].encode()
    assert any(own in block for block in blocks), "the search itself must be able to find something"
    for process, name, value in foreign:
        assert not any(value in block for block in blocks), (process, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another user's /proc needs root")
@pytest.mark.parametrize("process", PROCESSES)
def test_after_start_the_environment_and_arguments_hold_no_secret(stack, process):
    pid = stack.pid(process)
    environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    for name, value in secrets_of(stack, process).items():
        if "SECRET" in name or "URL" in name and "@" in value:
            assert value.encode() not in environment, name
            assert value.encode() not in arguments, name


@pytest.mark.skipif(os.geteuid() != 0, reason="the processes have users of their own only when started by root")
def test_each_process_runs_as_its_own_user_without_core_dumps(stack):
    users = set()
    for process in PROCESSES:
        pid = stack.pid(process)
        status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
        users.add(status["Uid"].split()[1])
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        core = [l for l in limits.splitlines() if l.startswith("Max core file size")][0].split()
        assert core[4:6] == ["0", "0"], core
        assert status["NoNewPrivs"].strip() == "1", process
    assert len(users) == len(PROCESSES) and "0" not in users


def test_secrets_are_in_no_log(stack):
    stack.token()
    for process in PROCESSES:
        for name, value in secrets_of(stack, process).items():
            if "SECRET" in name or "DATABASE_URL" in name:
                assert files_with(STATE / "logs", value) == [], (process, name)
    assert files_with(STATE / "logs", stack.token()) == []


AWS_PROCESSES = ["auth", "ingest-worker", "query", "audit-writer", "embedding-worker"]


def test_the_edge_has_no_aws_identity(stack):
    assert not {name for name in secrets_of(stack, "edge") if name.startswith("AWS_")}


@pytest.mark.parametrize("process", AWS_PROCESSES)
def test_only_the_embedding_worker_s_identity_may_call_the_model(stack, process):
    own = secrets_of(stack, process)
    client = boto3.client("s3", region_name=own["AWS_REGION"], aws_access_key_id=own["AWS_ACCESS_KEY_ID"],
                          aws_secret_access_key=own["AWS_SECRET_ACCESS_KEY"], endpoint_url=own.get("AWS_ENDPOINT_URL_S3") or None)
    credentials = client._request_signer._credentials
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    import requests
    base = secrets_of(stack, "embedding-worker")["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"]
    request = AWSRequest("POST", base + "/model/amazon.titan-embed-text-v2%3A0/invoke", data=b'{"inputText": "hello"}',
                         headers={"Content-Type": "application/json"})
    SigV4Auth(credentials, "bedrock", own["AWS_REGION"]).add_auth(request)
    answer = requests.post(request.url, data=request.data, headers=dict(request.headers), timeout=30)
    assert answer.status_code == (200 if process == "embedding-worker" else 403), answer.text


@pytest.mark.parametrize("process", ["auth", "embedding-worker", "audit-writer", "ingest-worker", "query"])
def test_nobody_reads_originals_as_itself_rather_than_for_a_tenant(stack, process):
    own = secrets_of(stack, process)
    bucket = secrets_of(stack, "ingest-worker")["CORDON_DOCUMENT_BUCKET"]
    client = boto3.client("s3", region_name=own["AWS_REGION"], aws_access_key_id=own["AWS_ACCESS_KEY_ID"],
                          aws_secret_access_key=own["AWS_SECRET_ACCESS_KEY"],
                          endpoint_url=secrets_of(stack, "ingest-worker")["AWS_ENDPOINT_URL_S3"])
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client.list_objects_v2(Bucket=bucket)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client.put_object(Bucket=bucket, Key="tenants/x/y", Body=b"z")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
