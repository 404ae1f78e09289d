"""Traces and timing: one request, one trace, through every process; read by OpenTelemetry's own decoder."""
import json
import re

import pytest

from conftest import PROCESSES, STATE, wait_for

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HOPS = {"total", "auth", "ingest", "query", "embed", "model", "audit", "db", "s3", "kms", "bedrock", "idp"}
INTERNAL, SERVER, CLIENT, CONSUMER = 1, 2, 3, 5


def trace_of(collector, trace, wanted):
    """The spans of a trace, once a span of each wanted (service, name) is among them."""
    def complete():
        spans = [s for s in collector.spans(STATE.parent / "otlp-decoder") if s["trace"] == trace]
        return spans if wanted <= {(s["service"], s["name"]) for s in spans} else None
    collector.spans(STATE.parent / "otlp-decoder")      # all that came before, which may be a lot, is not part of the wait
    return wait_for(f"all spans of {trace}", complete, 30, 0.5)


def timing_of(answer):
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", answer.headers["Server-Timing"])}


def chain(spans, span):
    """Names from a span up to the one whose parent is not ours."""
    by_id = {s["id"]: s for s in spans}
    names = []
    while span:
        names.append((span["service"].removeprefix("cordon-"), span["name"]))
        span = by_id.get(span["parent"])
    return names


@pytest.fixture(scope="module")
def note(stack):
    return stack.ingest(b"Follow-up note. The patient takes 20 mg of lisinopril each morning. Next visit in May.")


def test_a_question_is_one_trace_through_every_process_it_needs(stack, note, collector):
    answer = stack.call("POST", "/api/v1/query", json={"question": "How much lisinopril does the patient take?"},
                        headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert answer.status_code == 200, answer.text
    spans = trace_of(collector, TRACE, {("cordon-edge", "POST /api/v1/query"), ("cordon-audit-writer", "audit.Append"),
                                        ("cordon-embedding-worker", "embedding.Generate")})
    root = [s for s in spans if s["name"] == "POST /api/v1/query"]
    assert len(root) == 1 and root[0]["parent"] == PARENT and root[0]["kind"] == SERVER
    assert root[0]["attributes"]["cordon.request_id"] == answer.headers["X-Request-ID"]
    assert root[0]["attributes"]["http.response.status_code"] == 200
    ids = {s["id"] for s in spans}
    assert len(ids) == len(spans)
    assert [s for s in spans if s["parent"] not in ids] == root, "every other span has its parent in the trace"
    chains = [chain(spans, s) for s in spans]
    begin = [("query", "query.Query"), ("edge", "query.Query"), ("edge", "POST /api/v1/query")]
    assert begin in chains
    assert [("embedding-worker", "bedrock.InvokeModel"), ("embedding-worker", "embedding.Embed"), ("query", "embedding.Embed")] + begin in chains
    assert [("embedding-worker", "embedding.Generate"), ("query", "embedding.Generate")] + begin in chains
    assert [("audit-writer", "audit.Append"), ("query", "audit.Append")] + begin in chains
    assert [("query", "db.transaction")] + begin in chains
    by_id = {s["id"]: s for s in spans}
    for s in spans:
        assert s["start"] <= s["end"] and s["status"] == 0 and s["flags"] & 1 and s["scope"] == "cordon"
        assert s["attributes"]["cordon.request_id"] == answer.headers["X-Request-ID"]
        if s["kind"] == SERVER and s["parent"] in by_id:
            assert by_id[s["parent"]]["kind"] == CLIENT and by_id[s["parent"]]["name"] == s["name"]
    assert not collector.faults


def test_a_job_continues_the_trace_of_the_upload_that_enqueued_it(stack, collector):
    trace = "5bf92f3577b34da6a3ce929d0e0e4736"
    answer = stack.call("POST", "/api/v1/documents", data=b"Plan: return in two weeks, sooner when the cough grows worse.", headers={
        "Content-Type": "text/plain", "traceparent": f"00-{trace}-{PARENT}-01"})
    assert answer.status_code == 202, answer.text
    assert stack.wait_ready(answer.json()["document_id"])["status"] == "ready"
    spans = trace_of(collector, trace, {("cordon-edge", "POST /api/v1/documents"), ("cordon-ingest-worker", "job.ingest"),
                                        ("cordon-embedding-worker", "embedding.Embed"), ("cordon-audit-writer", "audit.Append")})
    ids = {s["id"] for s in spans}
    assert [s["name"] for s in spans if s["parent"] not in ids] == ["POST /api/v1/documents"]
    job = next(s for s in spans if s["name"] == "job.ingest")
    assert job["kind"] == CONSUMER
    assert [n for _, n in chain(spans, job)][-1] == "POST /api/v1/documents"
    chains = [[name for _, name in chain(spans, s)] for s in spans]
    assert any(c[0] == "s3.GetObject" and "job.ingest" in c for c in chains)
    assert any(c[:2] == ["embedding.Embed", "embedding.Embed"] and "job.ingest" in c for c in chains)
    assert any(c[0].startswith("s3.") and "job.ingest" not in c for c in chains), "the upload's own"


@pytest.mark.parametrize("header", [None, f"00-{TRACE.upper()}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01",
                                    f"00-{TRACE}-{PARENT}-01-more", "garbage"])
def test_without_a_good_traceparent_a_trace_of_its_own_begins(stack, collector, header):
    answer = stack.call("GET", "/api/v1/documents", headers={"traceparent": header} if header else {})
    assert answer.status_code == 200

    def found():
        return [s for s in collector.spans(STATE.parent / "otlp-decoder")
                if s["attributes"].get("cordon.request_id") == answer.headers["X-Request-ID"] and s["kind"] == SERVER and s["service"] == "cordon-edge"]
    root = wait_for("the span", found, 20, 0.5)[0]
    assert root["parent"] == "" and root["trace"] not in (TRACE, "0" * 32)


def test_a_caller_that_does_not_sample_is_not_recorded(stack, collector):
    trace = "6bf92f3577b34da6a3ce929d0e0e4736"
    assert stack.call("GET", "/api/v1/documents", headers={"traceparent": f"00-{trace}-{PARENT}-00"}).status_code == 200
    marker = "7bf92f3577b34da6a3ce929d0e0e4736"
    assert stack.call("GET", "/api/v1/documents", headers={"traceparent": f"00-{marker}-{PARENT}-01"}).status_code == 200
    trace_of(collector, marker, {("cordon-query", "query.ListDocuments")})
    assert not [s for s in collector.spans(STATE.parent / "otlp-decoder") if s["trace"] == trace]


def test_an_answer_says_where_its_time_went_by_names_of_a_closed_table(stack, note):
    answer = stack.call("POST", "/api/v1/query", json={"question": "How much lisinopril does the patient take?"})
    timing = timing_of(answer)
    assert set(timing) <= HOPS and {"total", "query", "db", "embed", "model", "audit", "bedrock"} <= set(timing)
    assert 0 < timing["query"] <= timing["total"] and timing["embed"] + timing["model"] + timing["audit"] <= timing["query"]
    upload = stack.upload(b"Timed: temperature 36.8.")
    assert {"total", "ingest", "db", "s3"} <= set(timing_of(upload))


def test_a_refusal_says_nothing_of_where_its_time_went(stack, fresh_uuid):
    for answer in (stack.call("GET", f"/api/v1/documents/{fresh_uuid}"), stack.call("GET", "/api/v1/documents", token="none"),
                   stack.call("GET", "/nowhere")):
        assert answer.status_code >= 400 and "Server-Timing" not in answer.headers


def test_spans_carry_no_text_of_anybody(stack, note, collector):
    stack.call("POST", "/api/v1/search", json={"question": "lisinopril of Zebulon Quist"})
    stack.upload(b"Zebulon Quist came in today.", name="Zebulon-Quist.txt")
    marker = "8bf92f3577b34da6a3ce929d0e0e4736"
    stack.call("GET", "/api/v1/documents", headers={"traceparent": f"00-{marker}-{PARENT}-01"})
    trace_of(collector, marker, {("cordon-query", "query.ListDocuments")})
    sent = b"".join(collector.bodies)
    for word in (b"lisinopril", b"Zebulon", b"Quist", b"morning", b"Bearer"):
        assert word not in sent, word
    for s in collector.spans(STATE.parent / "otlp-decoder"):
        assert set(s["resource"]) == {"service.name", "service.namespace", "service.version", "service.instance.id"}
        for name, value in s["attributes"].items():
            assert isinstance(value, int) or re.fullmatch(r"[A-Za-z0-9_./{}* :-]{1,64}", value), (name, value)


@pytest.mark.parametrize("process", PROCESSES)
def test_every_log_line_is_an_event_and_says_for_whom(stack, note, process):
    stack.call("GET", "/api/v1/documents", token="none")
    stack.call("POST", "/api/v1/search", json={"question": ""})
    lines = (STATE / "logs" / process / "current").read_text(errors="strict").splitlines()
    assert lines
    for line in lines:
        row = json.loads(line[line.index("{"):])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row["ts"])
        assert row["level"] in ("debug", "info", "warn", "error") and row["service"] == process
        assert re.fullmatch(r"[a-z][a-z0-9_]*", row["event"])
        if row["event"] in ("refused", "slow_request", "call_failed", "job_not_done"):
            assert re.fullmatch(r"[0-9a-f-]{36}", row["request_id"]), row
            assert re.fullmatch(r"[0-9a-f]{32}", row["trace_id"]), row


def test_a_slow_request_says_where_its_time_went(stack):
    rows = [json.loads(line[line.index("{"):]) for line in (STATE / "logs" / "edge" / "current").read_text().splitlines()]
    told = [r for r in rows if r["event"] in ("slow_request", "refused")]
    assert told
    for row in told:
        assert set(re.findall(r"(\w+);dur=", row["timing"])) <= HOPS and row["timing"].startswith("total;dur=")
