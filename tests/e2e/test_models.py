"""What stands between users and the models: budgets, a guardrail, and an account that must be as it is declared."""
import contextlib
import datetime
import json
import pathlib
import secrets
import subprocess
import threading
import time
import uuid

import pytest
import requests

from conftest import STATE, said, wait_for
from front import environment, free_ports
from pulse import is_excused

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


def little_left(stack):
    """CORDON_MODEL_TENANTS: the tenant demo has a budget for less than one answer. What it had so far, embedding-worker tells as it stops."""
    stack.cordon("restart", "embedding-worker")
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT t.id::text, coalesce((SELECT sum(s.cost) FROM audit.model_spend s WHERE s.tenant_id = t.id AND s.day = (now() AT TIME ZONE 'UTC')::date), 0) "
                       "FROM auth.tenants t WHERE t.slug = 'demo'")
        tenant, cost = cursor.fetchone()
    return f"{tenant}=1/{int(cost) // 1000000 + 100}/0"


def test_a_guardrail_and_a_budget_say_what_they_are(stack, notes):
    with worker_with(stack, CORDON_GUARDRAIL_ID="g1", CORDON_GUARDRAIL_VERSION="1", CORDON_MODEL_TENANTS=little_left(stack)):
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
        stack.cordon("restart", "embedding-worker")
        wait_for("ready again", stack.is_ready, 30)
        still = wait_for("it knows", lambda: (a := ask(stack, "What does the cat take?", "demo")).status_code != 503 and [a], 30)[0]
        assert (still.status_code, still.json()["code"]) == (429, "MODEL_004"), "a restart forgets nothing"
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


NEXT_MODEL = {"CORDON_EMBED_MODEL_ID": "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/titan-embed-next-app",
              "CORDON_EMBED_MODEL_NAME": "next", "CORDON_EMBED_OLD_MODEL_ID": "amazon.titan-embed-text-v2:0"}
REEMBED_BATCH = 32      # services/ingest-worker/reembed.c


def embedded(stack, mark):
    """When texts with that mark went to the next model."""
    calls = [json.loads(line) for line in pathlib.Path(stack.info["cloud"]["state"], "calls.jsonl").read_text().splitlines()]
    return [datetime.datetime.fromisoformat(call["ts"]).timestamp() for call in calls if mark in (call.get("marks") or []) and call["resource"].endswith("titan-embed-next-app")]


def cut_short(stack, job_id, since):
    """How often ingest-worker says that what was sent for a job is sent again: its attempt ended, or the link to embedding-worker was lost."""
    ended = sum(line["job_id"] == job_id for line in said(stack, "ingest-worker", "job_not_done", "job_handed_back"))
    return ended + sum((line["peer"], line["state"]) == ("embedding-worker", "down") and datetime.datetime.fromisoformat(line["ts"]).timestamp() > since
                       for line in said(stack, "ingest-worker", "link"))


def test_a_tenant_changes_its_embedding_model_and_is_searched_all_the_while(stack, pulse):
    slug, mark = f"models-{secrets.token_hex(4)}", f"mark-{secrets.token_hex(6)}"
    stack.cordon("tenants", "create", slug, "A Clinic")
    who, notes = {"tenant": slug, "role": "admin"}, {}
    control(stack, words_only=True)
    for word in ("hibiscus", "marigold", "snapdragon"):
        body = "\n".join(f"Line {n} on {word}: pressure {100 + n % 60} over {60 + n % 30}." for n in range(360)).encode()
        notes[word] = stack.ingest(body, name=f"{mark} {word}.txt", **who)["id"]

    def vectors():
        return stack.call("GET", "/api/v1/vectors", **who).json()

    def is_right(word):
        began = time.time()
        answer = stack.call("POST", "/api/v1/search", json={"question": f"What was the pressure of {word}?"}, **who)
        if is_excused(pulse, began, time.time(), answer):
            return is_right(word)
        hits = answer.json()["hits"]
        return len(hits) == 8 and hits[0]["document_id"] == notes[word]

    def known(model):
        with stack.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM app.text_vectors v JOIN auth.tenants t ON t.id = v.tenant_id WHERE t.slug = %s AND v.model = %s", (slug, model))
            return cursor.fetchone()[0]

    old = vectors()["model"]
    texts = known(old)
    assert texts > 32 and all(is_right(word) for word in notes)
    try:
        with worker_with(stack, **NEXT_MODEL):
            assert all(is_right(word) for word in notes), "by the old vectors"
            control(stack, latency_ms=1500)         # less than a search gives the model
            since = time.time()
            began = stack.call("POST", "/api/v1/vectors/reembeddings", **who)
            assert began.status_code == 202 and (began.json()["from_model"], began.json()["to_model"]) == (old, "next"), began.text
            assert stack.call("POST", "/api/v1/vectors/reembeddings", **who).status_code == 409, "one at a time"
            job_id, seen, is_over = began.json()["job_id"], [], threading.Event()

            def look():
                while not is_over.wait(0.05):
                    told, job = stack.call("GET", "/api/v1/vectors", **who), stack.call("GET", f"/api/v1/jobs/{job_id}", **who)
                    if told.ok and job.ok:
                        told, job = told.json(), job.json()["job"]
                        seen.append((told["model"], told.get("next_model"), job.get("chunks_done"), job.get("chunks_total"), job["state"]))

            def is_done():
                assert is_right("marigold"), seen[-1:]
                return seen and seen[-1][-1] == "succeeded"
            looks = threading.Thread(target=look)
            looks.start()
            try:
                wait_for("made anew", is_done, 120, 0.1)
            finally:
                is_over.set()
                looks.join()
            control(stack, latency_ms=0)
            assert any(told[:2] == (old, "next") and told[2] and told[2] < told[3] == texts for told in seen), f"no progress was seen: {seen}"
            assert vectors()["model"] == "next" and not vectors().get("next_model")
            assert all(is_right(word) for word in notes), "by the new vectors"
            assert (known(old), known("next")) == (0, texts)
            with stack.database() as db, db.cursor() as cursor:
                cursor.execute("SELECT l.action, extract(epoch FROM min(l.recorded_at))::float, min(convert_from(l.event, 'UTF8')) FROM audit.audit_logs l "
                               "WHERE l.resource_id = %s AND l.action LIKE 'model.%%' GROUP BY 1", (job_id,))
                record = {action: (at, event) for action, at, event in cursor.fetchall()}
            sent = embedded(stack, mark)
            assert min(sent) >= record["model.disclose"][0] - 0.01, "nothing went before it was on the record"
            assert texts <= len(sent) <= texts + REEMBED_BATCH * cut_short(stack, job_id, since), "each text once, or again with its batch"
            assert '"model":"next"' in record["model.use"][1]
        gone = stack.call("POST", "/api/v1/search", json={"question": "What was the pressure?"}, **who)
        assert (gone.status_code, gone.json()["code"]) == (409, "MODEL_006"), "the model of its vectors is not set up any more"
    finally:
        control(stack, latency_ms=0, words_only=0)
