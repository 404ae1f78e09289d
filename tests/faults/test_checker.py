"""The checker can fail: a system at rest that is as it should be has no violation, and one of each kind is found."""
import copy
import json
import types
import uuid

import checker
import history
import pytest
import snapshot

TENANT = str(uuid.uuid4())


def event(action, request_id="r", documents=(), resource_id=None, recorded=100.0, **named):
    return {"id": str(uuid.uuid4()), "tenant_id": TENANT, "recorded": recorded, "action": action, "outcome": "success",
            "request_id": request_id, "resource_id": resource_id, "document_ids": list(documents), "named": named}


def seal(s):
    """Number the events, and make leaves and heads of them."""
    for seq, e in enumerate(s.events):
        e["seq"] = seq
        e["bytes"] = json.dumps({"event_id": e["id"], "tenant_id": TENANT, "seq": seq, "action": e["action"], **e["named"]}).encode()
        e["leaf"] = checker.leaf_of(e["bytes"])
    s.heads = [{"tenant_id": TENANT, "size": len(s.events), "root": checker.root_of([e["leaf"] for e in s.events])}]


@pytest.fixture
def world():
    """One document that is ready, one that was deleted, an answer, a search, a download, a tenant; (history, snapshot)."""
    ready, gone, answer, chunk = (str(uuid.uuid4()) for _ in range(4))
    told = [
        {"what": "upload", "outcome": "acknowledged", "mark": "mark-a", "sha256": "aa", "key": "key-a", "attempt": 0, "is_bad": False,
         "document_id": ready, "request_id": "r-a", "http": 202},
        {"what": "upload", "outcome": "acknowledged", "mark": "mark-b", "sha256": "bb", "key": "key-b", "attempt": 0, "is_bad": False,
         "document_id": gone, "request_id": "r-b", "http": 202},
        {"what": "delete", "outcome": "acknowledged", "document_id": gone, "request_id": "r-d", "http": 204},
        {"what": "question", "outcome": "acknowledged", "mark": "mark-q", "request_id": "r-q", "answer_id": answer, "http": 200,
         "chunk_ids": [chunk], "document_ids": [ready]},
        {"what": "download", "outcome": "acknowledged", "document_id": ready, "sha256": "aa", "expected": "aa", "request_id": "r-l", "http": 200},
        {"what": "tenant", "outcome": "acknowledged", "slug": "t-1", "tenant_id": TENANT, "attempt": 0, "http": 201},
    ]
    s = snapshot.Snapshot()
    row = {"tenant_id": TENANT, "reason_code": None, "bytes": 2}
    s.documents = [{**row, "id": ready, "status": "ready", "chunks": 2, "stored": 2, "ordinals": 2, "highest": 1, "vectors": 2},
                   {**row, "id": gone, "status": "deleted", "chunks": 1, "stored": 0, "ordinals": 0, "highest": None, "vectors": 0}]
    s.jobs = [{"id": document_id, "document_id": document_id, "kind": "ingest", "state": "succeeded", "attempt": 1, "outages": 0,
               "created": 90.0, "done": 120.0} for document_id in (ready, gone)]
    s.tenants, s.objects, s.downloads = [{"id": TENANT, "slug": "t-1", "keys": 2}], [f"tenants/{TENANT}/{ready}"], {ready: "aa"}
    s.embeddings = [{"text": text, "mark": mark, "ts": 110.0, "allowed": True}
                    for mark, text in (("mark-a", "1"), ("mark-a", "2"), ("mark-b", "3"), ("mark-q", "4"))]
    shown = event("answer.disclose", "r-q", [ready], answer, chunk_ids=[chunk])
    s.answers, told[3]["event_id"] = [{"id": answer, "event_id": shown["id"]}], shown["id"]
    s.events = [event("tenant.create", resource_id=TENANT), event("question.ask", "r-q"), shown, event("document.content.read", "r-l", [ready])]
    for document_id, request_id in ((ready, "r-a"), (gone, "r-b")):
        s.events += [event("document.create", request_id, [document_id]), event("job.enqueue", request_id, [document_id]),
                     event("model.disclose", None, [document_id]), event("document.status", None, [document_id]),
                     event("job.complete", None, [document_id])]
    s.events.append(event("document.delete", "r-d", [gone]))
    seal(s)
    return told, s


def test_a_system_that_kept_its_promises_has_no_violation(world):
    assert checker.check(*world) == []


def ready_of(s):
    return next(d for d in s.documents if d["status"] == "ready")


def lose_document(told, s):
    s.documents.remove(ready_of(s))


def double_document(told, s):
    twin = {**ready_of(s), "id": str(uuid.uuid4())}
    s.documents.append(twin)
    s.downloads[twin["id"]] = "aa"


def accept_twice(told, s):
    told.append({**told[0], "document_id": told[1]["document_id"], "attempt": 1})


def leave_processing(told, s):
    ready_of(s)["status"] = "processing"


def delete_unasked(told, s):
    told[2]["document_id"] = "other"


def keep_deleted(told, s):
    told.append({**told[2], "document_id": ready_of(s)["id"]})


def change_bytes(told, s):
    s.downloads[ready_of(s)["id"]] = "cc"


def lose_chunk(told, s):
    ready_of(s)["stored"] -= 1


def lose_vector(told, s):
    ready_of(s)["vectors"] -= 1


def keep_vector_of_no_chunk(told, s):
    s.loose_vectors.append({"text": "ab" * 32, "model": "m"})


def keep_chunks_of_deleted(told, s):
    next(d for d in s.documents if d["status"] == "deleted")["stored"] = 1


def double_job(told, s):
    s.jobs.append({**s.jobs[0], "id": "other"})


def leave_job_running(told, s):
    s.jobs[0]["state"] = "running"


def lose_object(told, s):
    s.objects.clear()


def leave_object(told, s):
    s.objects.append(f"tenants/{TENANT}/nobody")


def leave_upload(told, s):
    s.uploads.append(f"tenants/{TENANT}/nobody")


def embed_twice(told, s):
    s.embeddings.append(s.embeddings[0])


def embed_too_little(told, s):
    s.embeddings.pop(0)


def embed_before_record(told, s):
    s.embeddings[0]["ts"] = 99.0


def embed_what_nobody_sent(told, s):
    s.embeddings.append({"text": "5", "mark": "mark-x", "ts": 110.0, "allowed": True})


def ask_before_record(told, s):
    s.embeddings[3]["ts"] = 99.0


def answer_off_the_record(told, s):
    s.events = [e for e in s.events if e["action"] != "answer.disclose"]
    seal(s)


def show_more_than_recorded(told, s):
    told[3]["chunk_ids"].append("another")


def answer_under_another_request(told, s):
    told[3]["request_id"] = "another"


def lose_answer(told, s):
    s.answers.clear()


def keep_answer_from_a_deleted_document(told, s):
    told[3]["document_ids"] = [next(d["id"] for d in s.documents if d["status"] == "deleted")]
    next(e for e in s.events if e["action"] == "answer.disclose")["document_ids"].extend(told[3]["document_ids"])


def download_other_bytes(told, s):
    told[4]["sha256"] = "cc"


def download_off_the_record(told, s):
    told[4]["request_id"] = "another"


def double_event(told, s):
    s.events.append(event("document.create", "r-a", [ready_of(s)["id"]]))
    seal(s)


def lose_event(told, s):
    s.events = [e for e in s.events if e["action"] != "document.delete"]
    seal(s)


def complete_twice(told, s):
    s.events.append(event("job.complete", None, [ready_of(s)["id"]]))
    seal(s)


def lose_tenant(told, s):
    s.tenants.clear()


def lose_tenant_key(told, s):
    s.tenants[0]["keys"] = 1


def leave_outbox(told, s):
    s.outbox = 1


def make_gap(told, s):
    s.events.pop(1)


def change_event(told, s):
    s.events[0]["bytes"] = s.events[0]["bytes"].replace(b"tenant.create", b"tenant.delete")


def change_head(told, s):
    s.heads[0]["root"] = bytes(32)


def put_event_twice(told, s):
    s.events[1]["id"] = s.events[0]["id"]
    seal(s)


def answer_500(told, s):
    told[4].update(outcome="refused", http=500)


PLANTED = [value for value in list(globals().values()) if callable(value) and getattr(value, "__code__", None)
           and value.__code__.co_varnames[:2] == ("told", "s") and not value.__name__.startswith("test")]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_violation_is_found(world, plant):
    told, s = copy.deepcopy(world)
    plant(told, s)
    assert checker.check(told, s), plant.__name__


def test_texts_embedded_again_are_explained_by_interruptions_in_their_document_s_time_only(world):
    told, s = world
    embed_twice(told, s)
    assert checker.check(told, s, interruptions=[(100.0, 105.0)]) == []
    assert checker.check(told, s, interruptions=[(130.0, 135.0)])


def test_texts_embedded_again_are_explained_by_an_attempt_at_their_own_job_that_ended(world):
    told, s = world
    embed_twice(told, s)
    ours, others = (j["id"] for j in s.jobs)
    s.ends[others] = 1
    assert checker.check(told, s)
    s.ends[ours] = 1
    assert checker.check(told, s) == []
    s.embeddings += checker.BATCH * s.embeddings[:1]
    assert checker.check(told, s), "one attempt repeats no more than one batch"


def test_texts_embedded_again_are_explained_by_a_link_lost_in_their_document_s_time_only(world):
    told, s = world
    embed_twice(told, s)
    s.links_down = [80.0, 130.0]
    assert checker.check(told, s)
    s.links_down.append(110.0)
    assert checker.check(told, s) == []


def test_attempts_that_ended_and_links_that_were_lost_are_read_from_logs_that_were_rotated_too(tmp_path):
    stack = types.SimpleNamespace(info={"processes": {name: {"log": str(tmp_path / name / "current")} for name in ("ingest-worker", "ingest-worker.2", "query")}})
    for name in stack.info["processes"]:
        (tmp_path / name).mkdir()
        for file, job in (("current", "b"), ("@40000000.s", "a")):
            (tmp_path / name / file).write_text("not JSON\n" + "".join(json.dumps({"ts": "1970-01-01T00:01:40.500Z", **line}, separators=(",", ":")) + "\n" for line in (
                {"event": "job_not_done", "job_id": job}, {"event": "job_handed_back", "job_id": "c"}, {"event": "link", "peer": "embedding-worker", "state": "down"},
                {"event": "link", "peer": "embedding-worker", "state": "up"}, {"event": "link", "peer": "audit-writer", "state": "down"})))
    assert snapshot.ends_of(stack) == {"a": 2, "b": 2, "c": 4}
    assert snapshot.links_down_of(stack) == [100.5] * 4


def test_a_history_remembers_intents_whose_outcome_nobody_told(tmp_path):
    kept = history.History(tmp_path / "h")
    first, second = kept.intend("upload", mark="mark-a"), kept.intend("upload", mark="mark-b")
    kept.learn(second, "acknowledged", http=202)
    kept.close()
    assert [(i["id"], i["outcome"]) for i in history.read(tmp_path / "h")] == [(first, "unknown"), (second, "acknowledged")]
