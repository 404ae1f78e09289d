"""One tenant has a great many chunks waiting for their vectors, and another asks a question: the question goes first at the model, and
takes hardly longer than on an idle system. The model bears so many calls at once and throttles the rest."""
import re
import statistics
import time
import uuid

import pytest
import requests

from conftest import IS_LONG
from detours import note_recovery

CALL_MS, BEARS = 100, 16
DOCUMENTS, CHUNKS_EACH, QUESTIONS = (25, 400, 15) if IS_LONG else (16, 60, 4)
CHUNK_BYTES = 900
MOST_TIMES = 1.5 if IS_LONG else 8      # as long as idle; a loaded machine's questions wait for processors, too; in turn it would be 18
SHARE_OF_WAIT = 1 / 4 if IS_LONG else 1  # of a document's wait, at the most


def control(stack, **switches):
    answer = requests.post(f"http://127.0.0.1:{stack.info['port_base'] + 3}/_control", json=switches, timeout=10)
    answer.raise_for_status()
    return answer.json()


def waits(stack):
    """{class: (seconds, calls)} that calls waited for their turn at the embedding model."""
    text = requests.get(stack.info["processes"]["embedding-worker"]["metrics"] + "/metrics", timeout=5).text
    found = {(name, kind): float(value) for name, kind, value in
             re.findall(r'^cordon_model_wait_seconds_(sum|count)\{model="embed",class="(\w+)"\} (\S+)$', text, re.M)}
    return {kind: (found["sum", kind], found["count", kind]) for kind in ("interactive", "batch")}


def mean_wait(before, after, kind):
    seconds, calls = (b - a for a, b in zip(before[kind], after[kind]))
    assert calls > 0, f"no {kind} call was made"
    return seconds / calls


def ask(stack):
    began = time.monotonic()
    answer = stack.call("POST", "/api/v1/query", json={"question": f"What does the cat Hieronymus take? {uuid.uuid4()}"}, tenant="lakeside")
    assert answer.status_code == 200, answer.text
    return time.monotonic() - began


def a_long_note(number):
    """No two chunks of any two notes are alike."""
    line = "Visit {} of note {}: pressure {} over {}, weight {} kg, nothing else of note was said or seen. "
    text = "".join(line.format(i, number, 100 + i % 60, 60 + i % 30, 50 + i % 70) for i in range(CHUNKS_EACH * CHUNK_BYTES // 90))
    return f"{uuid.uuid4()}\n{text}".encode()


@pytest.fixture
def busy_model(detoured):
    """On the stack whose clients nobody compares with the database afterwards."""
    stack = detoured
    control(stack, words_only=True)                     # the small model would take the processors for itself
    stack.ingest(b"The cat Hieronymus takes no medicines. It is fed at noon.", tenant="lakeside")
    control(stack, latency_ms=CALL_MS, most_at_once=BEARS)
    uploaded = []
    yield uploaded
    control(stack, latency_ms=0, most_at_once=0, words_only=0)
    for document in uploaded:
        stack.call("DELETE", f"/api/v1/documents/{document}")


def test_a_question_does_not_wait_for_another_tenants_documents(detoured, busy_model):
    stack = detoured
    ask(stack)                                          # keys and plans are there
    idle = [ask(stack) for _ in range(QUESTIONS)]
    before = waits(stack)
    for number in range(DOCUMENTS):
        answer = stack.upload(a_long_note(number))
        assert answer.status_code == 202, answer.text
        busy_model.append(answer.json()["document_id"])
    stack_is_busy = lambda: waits(stack)["batch"][1] >= before["batch"][1] + 4 * BEARS
    deadline = time.monotonic() + 60
    while not stack_is_busy() and time.monotonic() < deadline:
        time.sleep(0.05)
    at_first = waits(stack)
    busy = [ask(stack) for _ in range(QUESTIONS)]
    at_last = waits(stack)
    throttled = control(stack)["calls"]["throttled"]
    of_batch, of_questions = mean_wait(at_first, at_last, "batch"), mean_wait(at_first, at_last, "interactive")
    ratio = statistics.median(busy) / statistics.median(idle)
    note_recovery(f"fairness: a question idle, of {QUESTIONS}", statistics.median(idle))
    note_recovery(f"fairness: while {DOCUMENTS * CHUNKS_EACH} chunks wait ({ratio:.2f} times), calls throttled so far {throttled}", statistics.median(busy))
    note_recovery("fairness: wait for a turn at the model, questions", of_questions)
    note_recovery("fairness: wait for a turn at the model, documents", of_batch)
    assert at_last["batch"][1] > at_first["batch"][1], "the documents go on"
    assert of_questions < of_batch * SHARE_OF_WAIT, (of_questions, of_batch)
    assert ratio <= MOST_TIMES, (idle, busy)
