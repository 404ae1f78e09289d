"""What the system says of itself, by every witness: the database (as its superuser), the object store, the stand-in's call
log, and each document through the API."""
import collections
import concurrent.futures
import contextlib
import datetime
import hashlib
import json
import subprocess
import time

import requests

import e2e


class Snapshot:
    """Plain lists of dicts, so that a test can make one by hand (test_checker.py)."""
    def __init__(self, **witnesses):
        self.documents, self.jobs, self.answers, self.events, self.heads = [], [], [], [], []
        self.tenants, self.objects, self.uploads, self.embeddings, self.downloads = [], [], [], [], {}
        self.outbox, self.loose_vectors, self.ends, self.links_down = 0, [], collections.Counter(), []
        self.__dict__.update(witnesses)


QUERIES = {
    "documents": """SELECT d.id::text, d.tenant_id::text, d.status, d.reason_code, d.bytes, d.chunks, k.stored, k.ordinals, k.highest, v.vectors
        FROM app.documents d
        CROSS JOIN LATERAL (SELECT count(*) stored, count(DISTINCT ordinal) ordinals, max(ordinal) highest
                            FROM app.chunks c WHERE c.tenant_id = d.tenant_id AND c.document_id = d.id) k
        CROSS JOIN LATERAL (SELECT count(DISTINCT c.id) vectors FROM app.chunks c JOIN app.text_vectors t USING (tenant_id, text_blind)
                            WHERE c.tenant_id = d.tenant_id AND c.document_id = d.id) v""",
    "loose_vectors": """SELECT encode(text_blind, 'hex') text, model FROM app.text_vectors t
        WHERE NOT EXISTS (SELECT FROM app.chunks c WHERE c.tenant_id = t.tenant_id AND c.text_blind = t.text_blind)""",
    "jobs": """SELECT id::text, document_id::text, kind, state, attempt, outages,
                      extract(epoch FROM created_at)::float created, extract(epoch FROM done_at)::float done
               FROM jobs.jobs WHERE document_id IS NOT NULL""",
    "answers": "SELECT id::text, event_id::text FROM app.answers",
    "events": """SELECT event_id::text id, tenant_id::text, seq, extract(epoch FROM recorded_at)::float recorded, action, outcome,
                        request_id::text, resource_id::text, document_ids::text[], event bytes, leaf_hash leaf
                 FROM audit.audit_logs ORDER BY tenant_id, seq""",
    "heads": "SELECT tenant_id::text, size, root FROM audit.audit_heads",
    "tenants": "SELECT t.id::text, t.slug, (SELECT count(*) FROM keys.tenant_keys k WHERE k.tenant_id = t.id) keys FROM auth.tenants t",
}


def rows(cursor, query):
    cursor.execute(query)
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


def as_root(*command):
    return subprocess.run(["sudo", "-n", *command] if e2e.os.geteuid() else list(command), check=True, capture_output=True).stdout


def settle(stack, seconds=120):
    """Until no work is left, and nothing waits to be put on the log."""
    with stack.database() as db, db.cursor() as cursor:
        def is_quiet():
            cursor.execute("SELECT (SELECT count(*) FROM jobs.jobs WHERE state NOT IN ('succeeded', 'dead') AND document_id IS NOT NULL),"
                           " (SELECT count(*) FROM audit.audit_outbox)")
            return cursor.fetchone() == (0, 0)
        e2e.wait_for("no jobs and an empty outbox", is_quiet, seconds, 0.2)


def orphans_of(s):
    """Objects, and uploads to the store under way, that are of no document. What a deleted one has is not our matter here."""
    owned = {f"tenants/{d['tenant_id']}/{d['id']}" for d in s.documents}
    return [key for key in s.objects + s.uploads if key not in owned]


def sweep(stack, seconds=240):
    """Have the janitor come at once, and wait until it is through with uploads that died: who was killed in it leaves it leased for two
    minutes (SCHEDULE_RUN_MS)."""
    def is_swept():
        with stack.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM app.uploads WHERE swept_at IS NULL")
            if cursor.fetchone()[0]:
                cursor.execute("UPDATE jobs.schedules SET next_run_at = clock_timestamp() WHERE name = 'janitor' AND next_run_at > clock_timestamp()")
                return False
            s = Snapshot(documents=rows(cursor, "SELECT id::text, tenant_id::text FROM app.documents"))
        s.objects, s.uploads = objects_of(stack)
        return not orphans_of(s)
    with contextlib.suppress(AssertionError):       # the checker says what is left
        e2e.wait_for("the janitor was there", is_swept, seconds, 1)


def objects_of(stack):
    """Keys of the document bucket, and of the uploads to it that are not completed."""
    database = f"file:{stack.info['cloud']['state']}/s3/objects.db?mode=ro"
    program = ("import json, sqlite3, sys; db = sqlite3.connect(sys.argv[1], uri=True, timeout=30); print(json.dumps(["
               "[r[0] for r in db.execute(\"SELECT key FROM versions v WHERE bucket = 'cordon-documents' AND NOT marker AND seq ="
               " (SELECT max(seq) FROM versions w WHERE w.bucket = v.bucket AND w.key = v.key)\")],"
               "[r[0] for r in db.execute(\"SELECT key FROM uploads WHERE bucket = 'cordon-documents'\")]]))")
    return json.loads(as_root("/usr/bin/python3", "-c", program, database))


def embeddings_of(stack):
    """Texts that the embedding model has seen."""
    seen = []
    for line in as_root("cat", stack.info["cloud"]["state"] + "/calls.jsonl").splitlines():
        call = json.loads(line)
        if call.get("text_sha256") and "titan" in (call.get("resource") or "") and call.get("marks"):
            seen.append({"text": call["text_sha256"], "mark": call["marks"][0],
                         "ts": datetime.datetime.fromisoformat(call["ts"]).timestamp(), "allowed": call["allowed"]})
    return seen


def ends_of(stack):
    """How many attempts at each job ended before their time, as ingest-worker says: {job: count}."""
    return collections.Counter(line["job_id"] for line in e2e.said(stack, "ingest-worker", "job_not_done", "job_handed_back"))


def links_down_of(stack):
    """When an ingest-worker has lost embedding-worker: what was under way is sent again."""
    return [datetime.datetime.fromisoformat(line["ts"]).timestamp() for line in e2e.said(stack, "ingest-worker", "link")
            if (line["peer"], line["state"]) == ("embedding-worker", "down")]


def download(stack, token, document_id):
    for _ in range(40):
        try:
            answer = requests.get(f"{stack.url}/api/v1/documents/{document_id}/content", timeout=60,
                                  headers={"Authorization": f"Bearer {token}"})
            if answer.status_code < 500 and len(answer.content) == int(answer.headers.get("Content-Length", -1)):
                return hashlib.sha256(answer.content).hexdigest() if answer.status_code == 200 else f"HTTP {answer.status_code}"
        except requests.RequestException:
            pass
        time.sleep(0.25)
    return "no answer"


def take(stack):
    """Everything, of a system at rest."""
    s = Snapshot()
    with stack.database() as db, db.cursor() as cursor:
        # of one moment: the log is never at rest, since checkpoints are events too
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for name, query in QUERIES.items():
            setattr(s, name, rows(cursor, query))
        s.outbox = rows(cursor, "SELECT count(*) n FROM audit.audit_outbox")[0]["n"]
        cursor.execute("COMMIT")
    for event in s.events:
        event["leaf"] = bytes(event["leaf"])
        event["bytes"] = event["bytes"] and bytes(event["bytes"])       # None: its month is archived
    for head in s.heads:
        head["root"] = bytes(head["root"])
    s.objects, s.uploads = objects_of(stack)
    s.embeddings = embeddings_of(stack)
    token = stack.token()
    living = [d["id"] for d in s.documents if d["status"] != "deleted"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        s.downloads = dict(zip(living, pool.map(lambda document_id: download(stack, token, document_id), living)))
    s.ends, s.links_down = ends_of(stack), links_down_of(stack)         # last: who has lost a job to another may learn it late
    return s


def summary(s):
    """For people: how much there was."""
    return {"documents": dict(collections.Counter(d["status"] for d in s.documents)), "chunks": sum(d["stored"] for d in s.documents),
            "events": len(s.events), "embeddings": len(s.embeddings), "answers": len(s.answers),
            "attempts_over_one": sum(1 for j in s.jobs if j["attempt"] > 1), "outages": sum(j["outages"] for j in s.jobs)}
