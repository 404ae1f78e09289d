"""What stands between users and the models: budgets, a guardrail, and an account that must be as it is declared."""
import contextlib
import json
import pathlib
import subprocess
import uuid

import pytest
import requests

from conftest import STATE, wait_for
from front import environment, free_ports

GUARDED = "guardrailtestword"       # dev/cloud/bedrock.mjs


def control(stack, **switches):
    answer = requests.post(f"http://127.0.0.1:{stack.info['port_base'] + 3}/_control", json=switches, timeout=10)
    answer.raise_for_status()
    return answer.json()


@contextlib.contextmanager
def worker_with(stack, **settings):
    """The stack's embedding-worker with other settings for a while."""
    folder = pathlib.Path(stack.info["processes"]["embedding-worker"]["secrets"])
    for name, value in settings.items():
        (folder / name).write_text(f"{value}\n")
    stack.cordon("restart", "embedding-worker")
    wait_for("ready with other settings", stack.is_ready, 30)
    try:
        yield
    finally:
        for name in settings:
            (folder / name).unlink()
        stack.cordon("restart", "embedding-worker")
        wait_for("ready again", stack.is_ready, 30)


def ask(stack, question, tenant, **how):
    return stack.call("POST", "/api/v1/query", json={"question": question}, tenant=tenant, **how)


@pytest.fixture(scope="module")
def notes(stack):
    control(stack, words_only=True)
    for tenant in ("demo", "lakeside"):
        stack.ingest(f"The cat of {tenant} is called Hieronymus {uuid.uuid4()} and takes amoxicillin.".encode(), tenant=tenant)
    yield
    control(stack, words_only=0)


def test_a_guardrail_and_a_budget_say_what_they_are(stack, notes):
    with worker_with(stack, CORDON_GUARDRAIL_ID="g1", CORDON_GUARDRAIL_VERSION="1", CORDON_MODEL_DAY_BUDGET="1"):
        stopped = ask(stack, f"What does the cat take, {GUARDED}?", "lakeside")
        assert (stopped.status_code, stopped.json()["code"]) == (422, "MODEL_005")
        events = ask(stack, f"What does the cat take, {GUARDED}?", "lakeside", headers={"Accept": "text/event-stream"}).text
        assert "event: error" in events and "MODEL_005" in events and "event: token" not in events
        answered = ask(stack, "What does the cat take?", "demo")
        assert answered.status_code == 200 and "amoxicillin" in answered.json()["answer"]
        refused = ask(stack, "What does the cat take?", "demo")
        assert (refused.status_code, refused.json()["code"]) == (429, "MODEL_004")
        assert 0 < int(refused.headers["Retry-After"]) <= 24 * 3600
        search = stack.call("POST", "/api/v1/search", json={"question": "the cat"}, tenant="lakeside")
        assert search.status_code == 200, "the others have theirs"
        accepted = stack.upload(b"A note that has to wait for its tenant's next day.")
        assert accepted.status_code == 202
        job = f"/api/v1/jobs/{accepted.json()['job_id']}"
        wait_for("put off for the budget", lambda: "MODEL_004" in stack.call("GET", job).text, 60)
    document = accepted.json()["document_id"]
    assert stack.call("DELETE", f"/api/v1/documents/{document}").status_code in (202, 204)


def started(**settings):
    """What a second embedding-worker says before it ends."""
    bus, metrics = free_ports(2)
    env = environment("embedding-worker", CORDON_BUS_LISTEN=f"tcp://127.0.0.1:{bus}", CORDON_METRICS_LISTEN=f"127.0.0.1:{metrics}", **settings)
    done = subprocess.run([str(STATE / "bin" / "cordon-embedding-worker")], env=env, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize("logging, declared", [
    ({"s3Config": {"bucketName": "somebodys-bucket", "keyPrefix": "x"}, "textDataDeliveryEnabled": True}, ""),
    ({"cloudWatchConfig": {"logGroupName": "/bedrock/all", "roleArn": "arn:aws:iam::123456789012:role/x"}}, "s3:/bedrock/all"),
    ({"cloudWatchConfig": {"logGroupName": "g", "largeDataDeliveryS3Config": {"bucketName": "somebodys-bucket"}}}, "logs:g")])
def test_embedding_worker_does_not_start_while_the_account_copies_texts_to_a_place_that_nobody_declared(stack, logging, declared):
    control(stack, logging=logging)
    try:
        code, said = started(CORDON_BEDROCK_LOG_PLACES=declared)
    finally:
        control(stack, logging=0)
    assert code == 1 and "CORDON_BEDROCK_LOG_PLACES does not declare" in said, said


def test_embedding_worker_does_not_start_with_a_profile_that_leaves_the_declared_regions(stack):
    code, said = started(CORDON_CHAT_MODEL_ID="us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    assert code == 1 and "CORDON_MODEL_REGIONS does not declare" in said, said
    code, said = started(CORDON_CHAT_MODEL_ID="global.anthropic.claude-sonnet-4-5-20250929-v1:0", CORDON_MODEL_REGIONS="us-east-1,us-west-2")
    assert code == 1 and "may send to global" in said, said


def test_inference_profiles_serve_by_id_and_by_arn(stack, notes):
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/"
    with worker_with(stack, CORDON_EMBED_MODEL_ID=arn + "titan-embed-app", CORDON_EMBED_MODEL_NAME="amazon.titan-embed-text-v2:0",
                     CORDON_CHAT_MODEL_ID="us.anthropic.claude-sonnet-4-5-20250929-v1:0", CORDON_MODEL_REGIONS="us-east-1,us-west-2"):
        answered = ask(stack, "What does the cat take?", "lakeside")
        assert answered.status_code == 200 and "amoxicillin" in answered.json()["answer"], answered.text
        assert answered.json()["model"] == "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    calls = [json.loads(line) for line in pathlib.Path(stack.info["cloud"]["state"], "calls.jsonl").read_text().splitlines()]
    assert any(call["resource"] == arn + "titan-embed-app" and call["action"] == "bedrock:InvokeModel" and call["status"] == 200 for call in calls)
