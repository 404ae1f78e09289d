"""Compares what clients were told (history.py) with what the system says (snapshot.py). Pure functions: each gives the
violations that it found, as sentences; test_checker.py plants one of each kind.

What is compared, in a sentence each: what was acknowledged is there, once, whole, and on the record once; what is there was
wanted by somebody; nothing was shown or embedded that is not on the record before; the record itself has no gap."""
import collections
import hashlib
import json

import snapshot

BATCH = 8           # texts that one call embeds, and so the most that one interruption repeats (services/ingest-worker)
SLACK_S = 0.010     # between the clocks of the database and the stand-in, which are one clock


def acknowledged(history, what):
    return [i for i in history if i["what"] == what and i["outcome"] == "acknowledged"]


def leaf_of(data):
    return hashlib.sha256(b"\x00" + data).digest()


def root_of(leaves):
    """RFC 6962, 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_of(leaves[:half]) + root_of(leaves[half:])).digest()


def check_uploads(history, s, has_idempotency):
    """Accepted documents are there, once, whole."""
    documents = {d["id"]: d for d in s.documents}
    asked_to_delete = {i["document_id"] for i in history if i["what"] == "delete"}
    for i in acknowledged(history, "upload"):
        d = documents.get(i["document_id"])
        if not d:
            yield f"document {i['document_id']} was accepted and is lost"
        elif d["status"] == "deleted":
            if d["id"] not in asked_to_delete:
                yield f"document {d['id']} is deleted and nobody asked for it"
        elif d["status"] != ("failed" if i["is_bad"] else "ready"):
            yield f"document {d['id']} was accepted and is {d['status']} ({d['reason_code']})"
    by_key = collections.defaultdict(set)
    for i in acknowledged(history, "upload"):
        by_key[i["key"]].add(i["document_id"])
    for key, ids in by_key.items():
        if has_idempotency and len(ids) > 1:
            yield f"{key}: one upload was accepted as {len(ids)} documents"


def check_documents(history, s, has_idempotency):
    """Whatever is there was wanted, has the bytes that were sent, and is complete."""
    wanted = {i["sha256"]: i for i in history if i["what"] == "upload"}
    accepted = {i["document_id"] for i in acknowledged(history, "upload")}
    homes = collections.defaultdict(list)
    for d in s.documents:
        if d["status"] == "deleted":
            if d["id"] not in accepted:
                yield f"document {d['id']} is deleted and was never accepted"
            if d["stored"] or d["vectors"]:
                yield f"document {d['id']} is deleted and has {d['stored']} chunks"
            continue
        sha = s.downloads.get(d["id"])
        if sha not in wanted:
            yield f"document {d['id']} comes back as {sha}, which nobody sent"
        else:
            homes[sha].append(d["id"])
        if d["status"] == "ready" and not d["chunks"] == d["stored"] == d["ordinals"] == d["highest"] + 1 == d["vectors"]:
            yield f"document {d['id']} is ready with {d['stored']} chunks, {d['ordinals']} ordinals, {d['vectors']} vectors of {d['chunks']}"
        if d["status"] == "failed" and (d["stored"] or d["vectors"]):
            yield f"document {d['id']} failed and keeps {d['stored']} chunks"
    for v in s.loose_vectors:
        yield f"a vector of {v['model']} is left of text {v['text'][:12]}, and no chunk has that text"
    for sha, ids in homes.items():
        tries = [i for i in history if i["what"] == "upload" and i["sha256"] == sha]
        allowed = 1 if has_idempotency else sum(1 for i in tries if i["outcome"] != "refused")
        if len(ids) > allowed:
            yield f"{wanted[sha]['mark']} is there {len(ids)} times: {ids}"


def check_deletions(history, s):
    documents = {d["id"]: d for d in s.documents}
    for i in acknowledged(history, "delete"):
        d = documents.get(i["document_id"])
        if d and d["status"] != "deleted":
            yield f"document {i['document_id']} was deleted and is {d['status']}"


def check_jobs(history, s):
    """One job for each document, at its end."""
    jobs = collections.defaultdict(list)
    for j in s.jobs:
        if j["kind"] == "ingest":
            jobs[j["document_id"]].append(j)
    for d in s.documents:
        states = [j["state"] for j in jobs[d["id"]]]
        if len(states) != 1:
            yield f"document {d['id']} has {len(states)} jobs"
        elif d["status"] in ("ready", "failed") and states[0] != {"ready": "succeeded", "failed": "dead"}[d["status"]]:
            yield f"document {d['id']} is {d['status']} and its job {states[0]}"
        elif states[0] in ("queued", "running"):
            yield f"the job of document {d['id']} is {states[0]} at rest"


def check_objects(s):
    """Each document has its original, and nothing else is in the bucket once the janitor was there."""
    for d in s.documents:
        if d["status"] != "deleted" and f"tenants/{d['tenant_id']}/{d['id']}" not in s.objects:
            yield f"document {d['id']} has no original in the store"
    orphans = snapshot.orphans_of(s)
    if orphans:
        yield f"{len(orphans)} objects or uploads to the store belong to nobody: {sorted(orphans)[:3]}"


def check_embeddings(history, s, interruptions):
    """Each chunk was embedded, after it was on the record, and again only where something was cut short: by us, or by a machine that
    stood still, so that a lease ran out, an event was not on the record in its time, or a link's heartbeat was missed.
    interruptions: [(from, to)], when a process was not well."""
    upload_of = {i["document_id"]: i for i in acknowledged(history, "upload")}
    asked = {i["mark"] for i in history if i["what"] in ("search", "question")}
    uploaded = {i["mark"] for i in history if i["what"] == "upload"}
    seen = collections.defaultdict(list)
    for e in s.embeddings:
        if not e["allowed"]:
            continue
        seen[e["mark"]].append(e)
        if e["mark"] not in uploaded and e["mark"] not in asked:
            yield f"a text of {e['mark']} was embedded, which nobody sent"
    recorded = {}
    for event in s.events:
        if event["action"] == "model.disclose":
            for document_id in event["document_ids"]:
                recorded[document_id] = min(event["recorded"], recorded.get(document_id, event["recorded"]))
    jobs = {j["document_id"]: j for j in s.jobs if j["kind"] == "ingest"}
    for d in s.documents:
        mark = upload_of.get(d["id"], {}).get("mark")
        if not mark:
            continue
        texts = collections.Counter(e["text"] for e in seen[mark])
        if d["status"] == "ready" and len(texts) != d["chunks"]:
            yield f"document {d['id']} has {d['chunks']} chunks, and {len(texts)} texts of it were embedded"
        if seen[mark] and min(e["ts"] for e in seen[mark]) < recorded.get(d["id"], float("inf")) - SLACK_S:
            yield f"a text of document {d['id']} was embedded before that was on the record"
        copies = sum(1 for sha in s.downloads.values() if sha == upload_of[d["id"]]["sha256"]) or 1
        repeats, job = sum(texts.values()) - copies * len(texts), jobs.get(d["id"])
        if repeats and job:
            until = job["done"] or float("inf")
            cuts = sum(1 for low, high in interruptions if low < until and high > job["created"])
            links, ends = sum(1 for ts in s.links_down if job["created"] < ts < until), s.ends[job["id"]]
            if repeats > BATCH * (cuts + ends + links):
                yield (f"{repeats} texts of document {d['id']} were embedded again, with {cuts} interruptions and {links} lost links in its time, "
                       f"and {ends} attempts that ended early")
    yield from check_questions(s, seen, asked)


def check_questions(s, seen, asked):
    """A question goes to the model when it is on the record: of each that was answered by its request, of the others by
    their number."""
    asks = sorted(e["recorded"] for e in s.events if e["action"] == "question.ask")
    firsts = sorted(min(e["ts"] for e in calls) for mark, calls in seen.items() if mark in asked)
    for n, ts in enumerate(firsts):
        if n >= len(asks) or asks[n] > ts + SLACK_S:
            yield f"{n + 1} questions were embedded by {ts}, and fewer were on the record"
            break


def check_answers(history, s):
    """Each answer that was shown has its one disclosure, which names what it showed; each that is kept was permitted, and
    none is kept whose documents were deleted."""
    deleted = {d["id"] for d in s.documents if d["status"] == "deleted"}
    events, answers = {e["id"]: e for e in s.events}, collections.Counter(a["id"] for a in s.answers)
    for i in acknowledged(history, "search") + acknowledged(history, "question"):
        e = events.get(i["event_id"])
        action = "search.disclose" if i["what"] == "search" else "answer.disclose"
        if not e or e["action"] != action or e["outcome"] != "success":
            yield f"{i['mark']} was answered and event {i['event_id']} is not its disclosure"
            continue
        if e["request_id"] != i["request_id"]:
            yield f"{i['mark']} was answered in request {i['request_id']}, the log says {e['request_id']}"
        named = json.loads(e["bytes"])
        if not set(i["chunk_ids"]) <= set(named.get("chunk_ids", [])) or not set(i["document_ids"]) <= set(e["document_ids"]):
            yield f"{i['mark']} was shown chunks that event {e['id']} does not name"
        kept = answers[i["answer_id"]] if i["what"] == "question" else None
        if kept not in (None, 1) and not (kept == 0 and deleted & set(e["document_ids"])):
            yield f"answer {i['answer_id']} was given and is kept {kept} times"
        if kept and deleted & set(i["document_ids"]):
            yield f"answer {i['answer_id']} is kept, and a document that it showed is deleted"
    for a in s.answers:
        if events.get(a["event_id"], {}).get("resource_id") != a["id"]:
            yield f"answer {a['id']} is kept without its disclosure"
    reads = collections.Counter((e["action"], e["request_id"]) for e in s.events)
    for i in acknowledged(history, "download"):
        if i["sha256"] != i["expected"]:
            yield f"document {i['document_id']} came back with other bytes"
        if reads["document.content.read", i["request_id"]] < 1:
            yield f"document {i['document_id']} was downloaded and that is not on the record"


def check_mutations(history, s):
    """Each change is on the record once, under the request that was told of it."""
    of_document = collections.defaultdict(list)
    for e in s.events:
        for document_id in e["document_ids"]:
            of_document[document_id].append(e)
    acks = {i["document_id"]: i for i in acknowledged(history, "upload")}
    for d in s.documents:
        actions = collections.Counter(e["action"] for e in of_document[d["id"]])
        due = {"document.create": 1, "job.enqueue": 1, "document.delete": int(d["status"] == "deleted")}
        if d["status"] in ("ready", "failed"):
            due |= {"document.status": 1, "job.complete": int(d["status"] == "ready"), "job.dead": int(d["status"] == "failed")}
        for action, count in due.items():
            if actions[action] != count:
                yield f"document {d['id']} is {d['status']} and has {actions[action]} events {action}, {count} are due"
    for i in acknowledged(history, "delete"):
        requests = {e["request_id"] for e in of_document[i["document_id"]] if e["action"] == "document.delete"}
        if i["request_id"] not in requests:
            yield f"document {i['document_id']} was deleted in request {i['request_id']}, the log says {requests}"
    for document_id, i in acks.items():
        requests = {e["request_id"] for e in of_document[document_id] if e["action"] == "document.create"}
        if i["attempt"] == 0 and i["request_id"] not in requests:
            yield f"document {document_id} was made in request {i['request_id']}, the log says {requests}"


def check_tenants(history, s):
    tenants = {t["slug"]: t for t in s.tenants}
    created = collections.Counter(e["resource_id"] for e in s.events if e["action"] == "tenant.create")
    for i in acknowledged(history, "tenant"):
        t = tenants.get(i["slug"])
        if not t or t["id"] != i["tenant_id"]:
            yield f"tenant {i['slug']} was made and is lost"
    for t in s.tenants:
        if t["slug"] == "cordon-platform":
            continue            # the migrations made it
        if t["keys"] != 2:
            yield f"tenant {t['slug']} has {t['keys']} keys"
        if created[t["id"]] != 1:
            yield f"tenant {t['slug']} has {created[t['id']]} events tenant.create"


def check_log(s):
    """Without a gap, each leaf of its event, each head of its leaves, nothing left behind."""
    if s.outbox:
        yield f"{s.outbox} records wait in the outbox at rest"
    logs, heads = collections.defaultdict(list), {h["tenant_id"]: h for h in s.heads}
    for e in s.events:
        logs[e["tenant_id"]].append(e)
        if e["bytes"] is None:
            continue            # in the bucket, where an export finds it (test_years_points.py)
        said = json.loads(e["bytes"])
        if (said["event_id"], said["tenant_id"], said["seq"], said["action"]) != (e["id"], e["tenant_id"], e["seq"], e["action"]):
            yield f"event {e['id']}: its row says something else than its bytes"
        if leaf_of(e["bytes"]) != e["leaf"]:
            yield f"event {e['id']}: its leaf is not its hash"
    for tenant_id, log in logs.items():
        log.sort(key=lambda e: e["seq"])
        if [e["seq"] for e in log] != list(range(len(log))):
            yield f"the log of tenant {tenant_id} has gaps or repeats"
        head = heads.get(tenant_id)
        if not head or head["size"] != len(log) or head["root"] != root_of([leaf_of(e["bytes"]) if e["bytes"] else e["leaf"] for e in log]):
            yield f"the head of tenant {tenant_id} is not that of its log"
    ids = collections.Counter(e["id"] for e in s.events)
    yield from (f"event {event_id} is on the log {count} times" for event_id, count in ids.items() if count > 1)


def check_refusals(history):
    """While processes die, 'not now' is the only excuse: no answer, 502 to 504, 429; or the truth about what was deleted."""
    deleted = {i["document_id"] for i in history if i["what"] == "delete"}
    for i in history:
        http = i.get("http")
        if not http or http < 400 or http in (429, 502, 503, 504):
            continue
        if http == 404 and i.get("document_id") in deleted:
            continue
        if http == 409 and i["what"] == "tenant" and i["attempt"] > 0:
            continue            # an earlier attempt has made it
        if http == 409 and i.get("code") == "IDEM_002" and i["attempt"] > 0:
            continue            # an earlier attempt is under way, or died less than its lease ago
        yield f"{i['what']} {i.get('mark', '')} was refused with {http} {i.get('code')}, request {i.get('request_id')}"


def check(history, s, interruptions=(), has_idempotency=True):
    """All violations."""
    return [*check_uploads(history, s, has_idempotency), *check_documents(history, s, has_idempotency), *check_deletions(history, s), *check_jobs(history, s),
            *check_objects(s), *check_embeddings(history, s, interruptions), *check_answers(history, s),
            *check_mutations(history, s), *check_tenants(history, s), *check_log(s), *check_refusals(history)]
