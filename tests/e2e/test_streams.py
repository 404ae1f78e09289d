"""Answers as streams over real HTTP, by curl as a client would hear them; conversations; what breaks off, and who goes."""
import json
import os
import subprocess
import time

import pytest
import requests

from conftest import wait_for

TEXT = ("Discharge letter. The patient takes metformin 500 mg twice a day. Lisinopril 10 mg was begun on 3 March. "
        "Follow-up with Dr. Alvarez is planned for 12 April at the heart clinic.")
QUESTION = "How much metformin does the patient take?"
IS_LONG = bool(os.environ.get("CORDON_TEST_LONG"))


@pytest.fixture(scope="module")
def letter(stack):
    return stack.ingest(TEXT.encode(), name="letter.txt")["id"]


@pytest.fixture
def model(stack):
    """The chat model's faults; all off again afterwards."""
    url = f"http://127.0.0.1:{stack.info['port_base'] + 3}/_control"

    def set_to(**faults):
        assert requests.post(url, json=faults, timeout=10).status_code == 200
    yield set_to, lambda: requests.get(url, timeout=10).json()["calls"]
    set_to(piece_ms=0, stream_end=0, latency_ms=0, hang_ms=0)


def curl(stack, method, path, *more, body=None, role="clinician", user=None):
    """curl -N, as a process: lines come as they are sent."""
    command = ["curl", "-sSN", "-X", method, "-D", "/dev/stderr", "-H", f"Authorization: Bearer {stack.token('demo', role, user)}",
               "-H", "Accept: text/event-stream", *more]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    return subprocess.Popen([*command, stack.url + path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def events_of(text):
    """As the standard says: blocks of lines between empty ones; comments are no events."""
    out = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            out.append((int(fields.get("id", 0)), fields["event"], json.loads(fields["data"])))
    return out


def ask(stack, *more, **body):
    with curl(stack, "POST", "/api/v1/query", *more, body={"question": QUESTION, **body}) as client:
        out, head = client.communicate(timeout=60)
    return head, out, events_of(out)


def names(events):
    return [name for _, name, _ in events]


def test_an_answer_comes_as_events_and_once_more_as_it_came(stack, letter):
    head, _, events = ask(stack)
    assert "content-type: text/event-stream" in head.lower() and "x-accel-buffering: no" in head.lower()
    assert "no-transform" in head.lower() and "transfer-encoding: chunked" in head.lower()
    assert names(events)[0] == "sources" and names(events)[-2:] == ["usage", "done"] and "token" in names(events)
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    sources, done = events[0][2], events[-1][2]
    assert f"x-request-id: {sources['answer_id']}" in head.lower(), "the answer has the request's id"
    cited = [data for _, name, data in events if name == "citation"]
    assert cited and all("metformin" in c["quote"].lower() or c["document_id"] for c in cited)
    stored = stack.call("GET", f"/api/v1/query/{done['answer_id']}").json()["answer"]
    assert stored["answer"] == "".join(data["text"] for _, name, data in events if name == "token")
    with curl(stack, "GET", f"/api/v1/query/{done['answer_id']}", "-H", "Last-Event-ID: 2") as client:
        again = events_of(client.communicate(timeout=60)[0])
    assert [number for number, _, _ in again] == [number for number, _, _ in events if number > 2]
    assert [e for e in again if e[1] in ("token", "done")] == [e for e in events if e[0] > 2 and e[1] in ("token", "done")]


def test_the_first_byte_comes_behind_the_record(stack, letter):
    _, _, events = ask(stack)
    with stack.database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT action FROM audit.audit_logs WHERE event_id = %s", (events[0][2]["event_id"],))
        assert cursor.fetchone() == ("answer.disclose",)


def test_a_refusal_before_the_first_event_is_an_ordinary_problem(stack, letter):
    with curl(stack, "POST", "/api/v1/query", body={"question": ""}) as client:
        out, head = client.communicate(timeout=60)
    assert " 400 " in head.splitlines()[0] and json.loads(out)["code"] == "REQ_004"
    with curl(stack, "POST", "/api/v1/query", body={"question": QUESTION}, role="auditor", user="aud") as client:
        out, head = client.communicate(timeout=60)
    assert " 403 " in head.splitlines()[0]


@pytest.mark.parametrize("end, seconds", [("exception", 20), ("cut", 20), ("bad_crc", 20), ("hang", 30)])
def test_what_breaks_off_ends_in_an_error_and_never_as_done(stack, letter, model, end, seconds):
    model[0](stream_end=end)
    began = time.monotonic()
    head, _, events = ask(stack)
    assert time.monotonic() - began < seconds
    assert names(events)[-1] == "error" and "done" not in names(events)
    problem = events[-1][2]
    assert problem["code"] == "MODEL_003" and problem["request_id"] == events[0][2]["answer_id"]
    answer = stack.call("GET", f"/api/v1/query/{problem['request_id']}")
    assert answer.status_code == 404 or answer.json()["answer"]["state"] == "interrupted"


def test_slow_tokens_come_to_their_end_and_silence_is_filled(stack, letter, model):
    model[0](piece_ms=5000)
    out = ""
    with curl(stack, "POST", "/api/v1/query", body={"question": QUESTION}) as client:
        for line in client.stdout:
            out += line
            if line.strip() == ": heartbeat" and not IS_LONG:
                model[0](piece_ms=0)        # heard; the rest need not be as slow
    assert ": heartbeat" in out, "a sentence that takes more than ten seconds"
    assert names(events_of(out))[-1] == "done"


def test_when_the_client_goes_the_model_is_left(stack, letter, model):
    model[0](stream_end="hang")
    before = model[1]().get("left", 0)
    client = curl(stack, "POST", "/api/v1/query", body={"question": QUESTION})
    line = client.stdout.readline()
    assert line.startswith("id: 1")
    client.kill()
    client.communicate()
    wait_for("the connection to the model closed", lambda: model[1]().get("left", 0) > before, 8)


def test_a_conversation_goes_on_and_is_its_owners_alone(stack, letter):
    _, _, events = ask(stack)
    conversation = events[-1][2]["conversation_id"]
    _, _, follow_up = ask(stack, question="And lisinopril?", conversation_id=conversation)
    assert names(follow_up)[-1] == "done" and follow_up[-1][2]["conversation_id"] == conversation
    listed = stack.call("GET", "/api/v1/conversations").json()["conversations"]
    assert next(c for c in listed if c["conversation_id"] == conversation)["answers"] == 2
    read = stack.call("GET", f"/api/v1/conversations/{conversation}").json()["answers"]
    assert [a["question"] for a in read] == ["And lisinopril?", QUESTION]
    for method, path in (("GET", f"/api/v1/conversations/{conversation}"), ("GET", f"/api/v1/query/{conversation}"),
                         ("DELETE", f"/api/v1/conversations/{conversation}")):
        assert stack.call(method, path, user="somebody-else").status_code == 404
        assert stack.call(method, path, tenant="lakeside").status_code == 404
    assert stack.call("DELETE", f"/api/v1/conversations/{conversation}").status_code == 204
    assert stack.call("GET", f"/api/v1/query/{conversation}").status_code == 404
