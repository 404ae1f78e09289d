"""The first token of a streamed answer, in a tenant of 100,000 chunks whose vectors have a partition and an index of their own.

The tenant is filled as the worker would leave it: documents of 200 chunks with keys of two shares, the second ones in their bucket,
names and texts sealed under them; only the vectors are made up. A chunk is about one of 512 topics, a question about one of them too, so that
its eight passages come from as many documents, and as many keys are opened. The model's stand-in says the same at once. Each question comes with
a token that the edge has no ticket of, on a connection of its own. What model and AWS take, by their stand-ins' own log, is set apart.
./cordon bench starts it; it prints two tables and a line of JSON."""
import concurrent.futures
import hashlib
import hmac
import io
import json
import os
import pathlib
import re
import socket
import statistics
import struct
import sys
import time
import urllib.parse
import urllib.request
import uuid

import boto3
import botocore.config
import psycopg2
import psycopg2.extras
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from system import call, log_of_calls, postgres_seconds, quantile, running, session, upload

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tools"), str(ROOT / "e2e")]
from collector import Collector  # noqa: E402
from open_original import bound  # noqa: E402

STACK = json.loads(pathlib.Path(os.environ["BENCH_STACK"]).read_text())
EDGE, QUESTIONS = urllib.parse.urlsplit(os.environ["BENCH_EDGE"]), int(os.environ.get("BENCH_QUESTIONS", 60))
CHUNKS, OF_A_DOCUMENT, TOPICS, DETAILS, TOKENS = int(os.environ.get("BENCH_CHUNKS", 100000)), 200, 512, 4096, 40
FIELD_CHUNK_TEXT, FIELD_FILE_NAME = 1, 2
SAYS = "Weight fell to 71 kg under furosemide 40 mg twice daily [1]. Potassium stayed at 4.1 mmol/l [2][3]. Follow-up is in two weeks [4]. "


def control(**switches):
    request = urllib.request.Request(os.environ["BENCH_MODEL"] + "/_control", json.dumps(switches).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).read()


def aws(service):
    cloud = STACK["cloud"]
    return boto3.client(service, endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=cloud["access_key_id"],
                        aws_secret_access_key=cloud["secret_access_key"], config=botocore.config.Config(s3={"addressing_style": "path"}))


# ---- filling ----

def seal(key, plain, aad):
    nonce = os.urandom(12)
    return b"\x01" + nonce + AESGCM(key).encrypt(nonce, plain, b"\x01" + aad)


class Document:
    def __init__(self, tenant, tenant_key, version):
        self.tenant, self.id, first, self.share = tenant, uuid.uuid4(), os.urandom(32), os.urandom(32)
        self.wrapped = b"\x02" + seal(tenant_key, first, bound("cordon document key share v1", tenant, self.id, version))
        root = bytes(a ^ b for a, b in zip(first, self.share))
        self.key = hmac.new(root, b"cordon fields v1", hashlib.sha256).digest()

    def field(self, kind, row, text):
        return "\\\\x" + seal(self.key, text.encode(), bound("cordon document field v1", self.tenant, self.id, kind, row)).hex()


def text_of(n):
    return (f"Note {n}. " + " ".join(f"Day {day}: weight {70 + (n + day) % 9}.{day} kg, potassium {3 + (n * day % 20) / 10:.1f} mmol/l, furosemide 40 mg twice daily "
                                     "continued, no fever, walks with a frame." for day in range(1, 10)))[:1000]


def copy(cursor, table, columns, lines):
    cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", io.StringIO("".join(lines)))


def put_shares(documents):
    """By clients that each keep their connection; the stand-in is what takes the time."""
    s3 = aws("s3")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda d: s3.put_object(Bucket="cordon-shares", Key=f"tenants/{d.tenant}/{d.id}", Body=b"\x01" + d.share), documents))


VECTORS = """
CREATE UNLOGGED TABLE public.parts AS SELECT k.kind, n, ARRAY(SELECT ((random() + random() - 1) * k.weight)::real FROM generate_series(1, 1024)
    WHERE n >= 0)::ext.halfvec(1024) AS v FROM (VALUES ('topic', %(topics)s, 1.0), ('detail', %(details)s, 0.7)) k (kind, count, weight),
    generate_series(0, k.count - 1) n;
ALTER TABLE public.parts ADD PRIMARY KEY (kind, n);
ANALYZE public.parts;
SELECT app.make_vector_partition(%(tenant)s);
INSERT INTO app.text_vectors (tenant_id, text_blind, model, home, embedding)
    SELECT c.tenant_id, c.text_blind, %(model)s, c.tenant_id, t.v OPERATOR(ext.+) e.v
    FROM (SELECT k.*, row_number() OVER (ORDER BY k.ordinal, k.document_id) AS n FROM app.chunks k WHERE k.tenant_id = %(tenant)s) c
    JOIN public.parts t ON t.kind = 'topic' AND t.n = c.n * 7919 %% %(topics)s JOIN public.parts e ON e.kind = 'detail' AND e.n = c.n * 48271 %% %(details)s
    ON CONFLICT DO NOTHING;
UPDATE app.vector_sets SET home = tenant_id WHERE tenant_id = %(tenant)s;
SET maintenance_work_mem = '512MB';
SELECT app.index_vectors(%(tenant)s, %(model)s);
"""
QUESTION = "SELECT ext.l2_normalize(t.v OPERATOR(ext.+) e.v)::text FROM public.parts t, public.parts e WHERE t.kind = 'topic' AND t.n = %s AND e.kind = 'detail' AND e.n = %s"


def connect():
    db = psycopg2.connect(STACK["postgres"]["admin_url"])
    psycopg2.extras.register_uuid(conn_or_curs=db)
    db.autocommit = True
    return db.cursor()


def fill(cursor):
    """What the tenant's own upload has made is there: its user, its keys, its model."""
    made, _ = upload(1)
    cursor.execute("SELECT d.tenant_id, d.created_by, d.key_version, t.blob, s.model FROM app.documents d JOIN keys.tenant_keys t ON (t.tenant_id, t.version, t.kind) = "
                   "(d.tenant_id, d.key_version, 'data') JOIN app.vector_sets s ON s.tenant_id = d.tenant_id WHERE d.id = %s", (made["document_id"],))
    tenant, user, version, blob, model = cursor.fetchone()
    key = aws("kms").decrypt(CiphertextBlob=bytes(blob), EncryptionContext={"tenant_id": str(tenant), "purpose": "data"})["Plaintext"]
    documents = [Document(tenant, key, version) for _ in range(CHUNKS // OF_A_DOCUMENT)]
    cursor.execute("SET session_replication_role = replica")        # ordinary triggers and foreign keys would only say that it is well done
    copy(cursor, "app.documents", "tenant_id, id, status, content_type, bytes, name_enc, key_version, pages, chunks, created_by, ready_at",
         (f"{tenant}\t{d.id}\tready\ttext/plain\t{1000 * OF_A_DOCUMENT}\t{d.field(FIELD_FILE_NAME, d.id, f'note-{n}.txt')}\t{version}\t1\t{OF_A_DOCUMENT}\t{user}\tnow()\n"
          for n, d in enumerate(documents)))
    copy(cursor, "keys.document_keys", "tenant_id, document_id, version, wrapped", (f"{tenant}\t{d.id}\t{version}\t\\\\x{d.wrapped.hex()}\n" for d in documents))
    for n, d in enumerate(documents):
        ids = [uuid.uuid4() for _ in range(OF_A_DOCUMENT)]
        copy(cursor, "app.chunks", "tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc",
             (f"{tenant}\t{d.id}\t{i}\t{k}\t{900 * k}\t{900 * k + 1000}\t260\t{d.field(FIELD_CHUNK_TEXT, i, text_of(OF_A_DOCUMENT * n + k))}\n" for k, i in enumerate(ids)))
    put_shares(documents)
    cursor.execute(VECTORS, {"tenant": tenant, "model": model, "topics": TOPICS, "details": DETAILS})
    for table in ("app.documents", "app.chunks", "app.text_vectors", "keys.document_keys"):
        cursor.execute(f"VACUUM ANALYZE {table}")
    given = {}
    for n in range(QUESTIONS):
        cursor.execute(QUESTION, (n * 7 % TOPICS, n * 77773 % DETAILS))
        given[f"How was question {n} answered?"] = json.loads(cursor.fetchone()[0])
    control(given=given, says=SAYS)
    cursor.execute("SELECT count(*), pg_total_relation_size(max(c.oid)) FROM app.chunks k, pg_class c WHERE k.tenant_id = %s AND c.relname = %s",
                   (tenant, "text_vectors_" + tenant.hex))
    return list(given), cursor.fetchone()


# ---- asking ----

def tokens():
    """More than are used within the second for which the edge keeps a ticket; each has been used before."""
    made = []
    for _ in range(TOKENS):
        answer = session.post(os.environ["BENCH_ISSUER"] + "/token", auth=("cordon-cli", os.environ["BENCH_CLI_SECRET"]), timeout=60, headers={"Authorization": None},
                              data={"grant_type": "urn:cordon:dev:token", "tenant": "demo", "roles": "clinician", "user": "bench", "ttl": 3600})
        made.append(answer.json()["access_token"])
        call("GET", "/api/v1/documents?limit=1", 200, headers={"Authorization": f"Bearer {made[-1]}"})
    time.sleep(1.1)
    return made


def first_token(question, token, trace=None):
    """When a streamed answer was asked for, and when its first token was here."""
    body = json.dumps({"question": question}).encode()
    head = [f"POST /api/v1/query HTTP/1.1\r\nHost: {EDGE.netloc}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nAccept: text/event-stream"]
    head += [f"traceparent: 00-{trace}-{os.urandom(8).hex()}-01"] if trace else []
    message = "\r\n".join(head + [f"Content-Length: {len(body)}", "", ""]).encode() + body
    got, came, began = b"", None, time.time()
    with socket.create_connection((EDGE.hostname, EDGE.port), 60) as s:
        s.sendall(message)
        while part := s.recv(1 << 16):
            got += part
            if came is None and b"event: token" in got:
                came = time.time()
    if came is None or b"event: done" not in got:
        sys.exit(f"bench: a streamed answer that is none: {got[:2000].decode()}")
    return began, came


# ---- where it went ----

def fields(data):
    """(number, value) of a protobuf message: int, or bytes."""
    def varint(at):
        value = shift = 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value, at
    at = 0
    while at < len(data):
        tag, at = varint(at)
        if tag & 7 == 0:
            value, at = varint(at)
        elif tag & 7 == 1:
            value, at = struct.unpack_from("<Q", data, at)[0], at + 8
        else:
            length, at = varint(at)
            value, at = data[at:at + length], at + length
        yield tag >> 3, value


def spans_of(body):
    """(trace, process, name, kind, statements, began, ended) of every span in an export; seconds since the epoch."""
    for _, resource in fields(body):
        parts = list(fields(resource))
        named = dict(attribute(value) for _, r in parts[:1] for number, value in fields(r) if number == 1)
        for scope in (value for number, value in parts if number == 2):
            for span in (value for number, value in fields(scope) if number == 2):
                s = {number: value for number, value in fields(span)}
                texts = dict(attribute(value) for number, value in fields(span) if number == 9)
                yield s[1].hex(), named["service.name"].removeprefix("cordon-"), s[5].decode(), s[6], texts.get("db.query.summary", ""), s[7] / 1e9, s[8] / 1e9


def attribute(pair):
    both = dict(fields(pair))
    value = dict(fields(both.get(2, b""))).get(1, b"")
    return both[1].decode(), value.decode() if isinstance(value, bytes) else ""


SERVER, CLIENT = 2, 3


def waterfall(collector, asked):
    """[(what, begins, takes)], medians in ms from the question on, of what began before the first token. asked: {trace: (began, came)}."""
    rows = {}
    spans = sorted((s for body in list(collector.bodies) for s in spans_of(body) if s[0] in asked), key=lambda s: s[5])
    for trace, (began, came) in asked.items():
        seen = {}
        for _, process, name, kind, statements, start, end in (s for s in spans if s[0] == trace and s[5] < came):
            what = (process, f"{name}{' (' + statements + ')' if statements else ''}{', as it is served' if kind == SERVER else ''}")
            seen[what] = seen.get(what, 0) + 1
            rows.setdefault((*what, seen[what]), []).append((1000 * (start - began), 1000 * (min(end, came) - start)))
    typical = [(process, f"{name}{f', no. {n}' if n > 1 else ''}", statistics.median(t[0] for t in times), statistics.median(t[1] for t in times))
               for (process, name, n), times in rows.items() if 2 * len(times) > len(asked)]
    return sorted(typical, key=lambda row: row[2])


def traced(collector, questions, pool):
    asked = {}
    for n, question in enumerate(questions):
        trace = os.urandom(16).hex()
        asked[trace] = first_token(question, pool[n % TOKENS], trace)
    deadline = time.time() + 10
    while time.time() < deadline and len({s[0] for body in list(collector.bodies) for s in spans_of(body) if s[1] == "edge" and s[3] == SERVER} & asked.keys()) < len(asked):
        time.sleep(0.1)
    time.sleep(1.5)             # the others send every second
    return waterfall(collector, asked)


# ---- tables ----

def processor(cursor):
    """Seconds of each process so far."""
    spent = {"PostgreSQL": postgres_seconds(cursor)}
    for name, process in STACK["processes"].items():
        text = urllib.request.urlopen(process["metrics"] + "/metrics", timeout=10).read().decode()
        spent[name] = float(re.search(r"^process_cpu_seconds_total (\S+)$", text, re.M)[1])
    return spent


def row(what, asked):
    calls = log_of_calls()
    total = [came - began for began, came in asked]
    def taken(*services):
        return [running([(a, b) for s, a, b in calls if s in services], began, came) for began, came in asked]
    model, aws_took = taken("bedrock"), taken("s3", "kms", "sts")
    own = [t - m for t, m in zip(total, model)]
    figures = {"total": total, "model": model, "own": own, "own_without_aws": [o - a for o, a in zip(own, aws_took)]}
    ms = {name: [round(1000 * quantile(values, q), 1) for q in (0.5, 0.99)] for name, values in figures.items()}
    print(f"| {what} | {len(asked)} | {ms['total'][0]} ms | {ms['model'][0]} ms | **{ms['own'][0]} ms** | {1000 * min(own):.1f} ms | {ms['own'][1]} ms | {ms['own_without_aws'][0]} ms |")
    return {"what": what, "count": len(asked), "least_own_ms": round(1000 * min(own), 1), **{f"{name}_ms": values for name, values in ms.items()}}


def main():
    collector = Collector(int(os.environ["BENCH_TRACES_PORT"]))
    began = time.time()
    cursor = connect()
    questions, (chunks, size) = fill(cursor)
    filled = time.time() - began
    pool = tokens()
    for n in range(8):
        first_token(questions[-1], pool[n])
    time.sleep(1.1)
    fresh = [first_token(q, pool[n % TOKENS]) for n, q in enumerate(questions[:-1])]
    spent = processor(cursor)
    again = [first_token(q, pool[n % TOKENS]) for n, q in enumerate(questions[:-1])]
    processors = {name: round(1000 * (seconds - spent[name]) / len(again), 2) for name, seconds in processor(cursor).items()}
    print(f"### first-token\n\n{chunks:,} chunks in {chunks // OF_A_DOCUMENT} documents of one tenant, {size / 1e6:.0f} MB of vectors and their index; filled in {filled:.0f} s. One question after the other, "
          f"8 passages of as many documents. {os.cpu_count()} cores, load {os.environ['BENCH_LOAD_BEFORE']} before the start, {os.getloadavg()[0]:.1f} now. *own* is all but the model's stand-in.\n")
    print("| until the first token | count | p50 | model p50 | own p50 | own least | own p99 | own p50 without S3 and KMS |\n|---|--:|--:|--:|--:|--:|--:|--:|")
    rows = [row("of documents that nobody asked about for a minute", fresh), row("of the same again, within a minute", again)]
    print(f"\nProcessor time of a whole answer: {', '.join(f'{name} {ms} ms' for name, ms in processors.items())}; together {sum(processors.values()):.1f} ms.")
    print("\n| process | what | begins | takes |\n|---|---|--:|--:|")
    stages = traced(collector, questions[:-1], pool)
    for process, what, begins, takes in stages:
        print(f"| {process} | {what} | {begins:.1f} ms | {takes:.1f} ms |")
    print()
    print(json.dumps({"bench": "first-token", "load_before": float(os.environ["BENCH_LOAD_BEFORE"]), "load": os.getloadavg()[0], "chunks": chunks, "filled_s": round(filled),
                      "rows": rows, "processor_ms": processors, "stages": stages}))
    control(given=0, says=0)


main()
