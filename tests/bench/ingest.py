"""Ingestion: from the 202 to `ready` of a small text on a system that does nothing else, where that time goes, and how much goes
through with several uploads in flight, beside bare INSERTs of the same rows in the same run (bench_rows).

The model's stand-in embeds by words here, so that its small model does not take the cores that are measured; the gateway for S3
and KMS is the usual one. What both take, by their log of calls, is set apart. ./cordon bench starts it."""
import concurrent.futures
import json
import os
import random
import re
import statistics
import subprocess
import time
import urllib.request

import psycopg2

from system import DOCUMENTS, call, log_of_calls, note, postgres_seconds, quantile, running

PROGRAM, METRICS, DATABASE = os.environ["BENCH_PROGRAM"], os.environ["BENCH_METRICS"], os.environ["BENCH_STACK_URL"]
IN_FLIGHT, ROUNDS = 8, int(os.environ.get("BENCH_RUNS", 3))
STAGES = ["open", "extract", "split", "record", "embed", "store", "finish"]
WORDS = "admitted oedema furosemide potassium follow-up walks weight morning clinic renal heart failure nurse visit stable dose twice".split()


def control(**switches):
    request = urllib.request.Request(os.environ["BENCH_MODEL"] + "/_control", json.dumps(switches).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).read()


def connect():
    connection = psycopg2.connect(DATABASE)
    connection.autocommit = True
    return connection.cursor()


def ask(cursor, sql, *values):
    cursor.execute(sql, values)
    return cursor.fetchone()


def metrics():
    text = urllib.request.urlopen(METRICS + "/metrics", timeout=10).read().decode()
    return {m[1]: float(m[2]) for m in re.finditer(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.M)}


def processor_seconds(cursor):
    return {"ingest-worker": metrics()["process_cpu_seconds_total"], "PostgreSQL": postgres_seconds(cursor)}


def stages(before, after):
    """Mean ms a document, by stage; `wait` is from the commit of the job to its claim."""
    def grown(name):
        return after.get(name, 0) - before.get(name, 0)
    jobs = grown('cordon_job_seconds_count{kind="ingest"}')
    named = {"wait": 'cordon_job_wait_seconds_sum{queue="ingest"}', **{s: f'cordon_job_stage_seconds_sum{{stage="{s}"}}' for s in STAGES},
             "job": 'cordon_job_seconds_sum{kind="ingest"}'}
    return jobs, {stage: 1000 * grown(name) / jobs for stage, name in named.items()}


def put(body):
    began = time.time()
    made = call("POST", "/api/v1/documents", 202, data=body, headers={"Content-Type": "text/plain", "Content-Disposition": 'attachment; filename="note.txt"'})
    return made, began, time.time()


def watch_until_done(cursor, job_id):
    """The first moment at which another session sees the job done, to 2 ms. By SQL, because a GET would be work for all processes."""
    deadline = time.time() + 60
    while time.time() < deadline:
        state, = ask(cursor, "SELECT state FROM jobs.jobs WHERE id = %s", job_id)
        if state == "succeeded":
            return time.time()
        if state not in ("queued", "running"):
            raise SystemExit(f"bench: the job became {state}")
        time.sleep(0.002)
    raise SystemExit("bench: the job does not end")


def idle(cursor, count):
    spans = []
    before = metrics()
    for n in range(count):
        made, began, answered = put(note(n))
        spans.append((began, answered, watch_until_done(cursor, made["job_id"])))
    jobs, shares = stages(before, metrics())
    assert jobs == count, "the metric of jobs counts other jobs"
    return spans, shares


def text(n, size):
    rng = random.Random(n)
    lines = []
    while sum(map(len, lines)) < size:
        lines.append(" ".join(rng.choice(WORDS) for _ in range(14)).capitalize() + f" {rng.randrange(1000)}.\n")
    return "".join(lines).encode()[:size]


def flood(cursor, bodies):
    """Documents, bytes and chunks a second from the first POST until the last is ready; IN_FLIGHT clients, each with one upload."""
    chunks, done = ask(cursor, "SELECT count(*) FROM app.chunks")[0], ask(cursor, "SELECT count(*) FROM jobs.jobs WHERE state = 'succeeded'")[0]
    spent, before, began = processor_seconds(cursor), metrics(), time.time()
    with concurrent.futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
        for _ in pool.map(put, bodies):
            pass
    accepted = time.time() - began
    while ask(cursor, "SELECT count(*) FROM jobs.jobs WHERE state = 'succeeded'")[0] < done + len(bodies):
        if time.time() > began + 300:
            raise SystemExit("bench: the documents do not become ready")
        time.sleep(0.01)
    seconds = time.time() - began
    made = ask(cursor, "SELECT count(*) FROM app.chunks")[0] - chunks
    return {"accepted": len(bodies) / accepted, "documents": len(bodies) / seconds, "mb": sum(map(len, bodies)) / seconds / 1e6, "chunks": made / seconds,
            "chunks_each": made / len(bodies), "processor_ms": {p: 1000 * (s - spent[p]) / len(bodies) for p, s in processor_seconds(cursor).items()}, "stages": stages(before, metrics())[1]}


def limit(chunks, chunk_bytes):
    """Rates of bench_rows by (name, callers); it takes one run of each row."""
    environment = {**os.environ, "BENCH_CHUNKS": str(chunks), "BENCH_CHUNK_BYTES": str(chunk_bytes), "BENCH_RUNS": "1"}
    out = subprocess.run([PROGRAM], env=environment, check=True, capture_output=True, text=True).stdout
    rows = json.loads(next(line for line in out.splitlines() if line.startswith("{")))["rows"]
    return [row["rate"] for row in rows]


def against_limit(cursor, size, count):
    """The same size of documents through Cordon and its rows through libpq, in turns."""
    ours, bare = [], []
    for r in range(ROUNDS):
        ours.append(flood(cursor, [text(1000 * r + n, size) for n in range(count)]))
        chunk_bytes = int(ask(cursor, "SELECT avg(octet_length(text_enc)) FROM (SELECT text_enc FROM app.chunks ORDER BY id DESC LIMIT 500) c")[0])
        bare.append(limit(max(1, round(ours[-1]["chunks_each"])), chunk_bytes))
    middle = {key: statistics.median(run[key] for run in ours) for key in ("accepted", "documents", "mb", "chunks", "chunks_each")}
    middle["stages"] = {stage: statistics.median(run["stages"][stage] for run in ours) for stage in ours[0]["stages"]}
    middle["processor_ms"] = {p: statistics.median(run["processor_ms"][p] for run in ours) for p in ours[0]["processor_ms"]}
    middle["low"], middle["high"] = min(run["chunks"] for run in ours), max(run["chunks"] for run in ours)
    rates = [statistics.median(run[i] for run in bare) for i in range(4)]
    return {"bytes": size, "count": count, "chunk_bytes": chunk_bytes, **middle, "bare_chunks": rates[1], "usual_chunks": rates[3]}


def print_idle(spans, shares):
    calls = log_of_calls()
    def taken(service, began, ended):
        return running([(a, b) for s, a, b in calls if s in service], began, ended)
    total = [done - answered for _, answered, done in spans]
    model = [taken(("bedrock",), answered, done) for _, answered, done in spans]
    store = [taken(("s3", "kms", "sts"), answered, done) for _, answered, done in spans]
    rows = {"202 until done": total, "of it the model's stand-in": model, "of it S3's and KMS's": store,
            "202 until done, without the model": [t - m for t, m in zip(total, model)],
            "without any stand-in": [t - m - s for t, m, s in zip(total, model, store)],
            "POST until 202": [answered - began for began, answered, _ in spans]}
    print("| small text, idle system | count | p50 | p90 | p99 |\n|---|--:|--:|--:|--:|")
    figures = {}
    for what, values in rows.items():
        figures[what] = [round(1000 * quantile(values, q), 1) for q in (0.5, 0.9, 0.99)]
        print(f"| {what} | {len(values)} | " + " | ".join(f"{v} ms" for v in figures[what]) + " |")
    return figures


def main():
    control(words_only=True)
    cursor = connect()
    idle(cursor, min(5, DOCUMENTS))
    spans, shares = idle(cursor, DOCUMENTS)
    print(f"### ingest\n\nNotes of {len(note(0))} bytes, one at a time; then {IN_FLIGHT} clients that upload one after another. {os.cpu_count()} cores, load "
          f"{os.environ['BENCH_LOAD_BEFORE']} before the start, {os.getloadavg()[0]:.1f} at this point. The model's stand-in embeds by words; *limit* is libpq "
          f"alone that puts the same rows into tables without policies, four connections, in turns with ours, median of {ROUNDS} runs each.\n")
    figures = print_idle(spans, shares)
    small, large = (1236, 30 if ROUNDS == 1 else 120), (65536, 4 if ROUNDS == 1 else 24)
    floods = [against_limit(cursor, *small), against_limit(cursor, *large)]
    print("\n| mean of a document | wait | " + " | ".join(STAGES) + " | job |\n|---|" + "--:|" * (len(STAGES) + 2))
    for what, means in [("idle", shares)] + [(f"{f['bytes']} bytes, in flight", f["stages"]) for f in floods]:
        print(f"| {what} | " + " | ".join(f"{means[s]:.1f} ms" for s in ["wait", *STAGES, "job"]) + " |")
    print("\n| in flight | accepted | documents | bytes | chunks | runs | limit | ratio | the limit with the usual policy | processor: ingest-worker | PostgreSQL |\n|---|"
          + "--:|" * 10)
    for f in floods:
        print(f"| {f['count']} texts of {f['bytes']} bytes, {f['chunks_each']:.0f} chunks each | {f['accepted']:.1f}/s | {f['documents']:.1f}/s | {f['mb']:.2f} MB/s | "
              f"{f['chunks']:.0f}/s | {f['low']:.0f} to {f['high']:.0f} | {f['bare_chunks']:.0f}/s | {f['chunks'] / f['bare_chunks']:.3f} | {f['usual_chunks']:.0f}/s | "
              + " | ".join(f"{f['processor_ms'][p]:.1f} ms" for p in ("ingest-worker", "PostgreSQL")) + " |")
    print()
    print(json.dumps({"bench": "ingest", "load_before": float(os.environ["BENCH_LOAD_BEFORE"]), "load": os.getloadavg()[0], "idle_ms": figures,
                      "idle_stages_ms": shares, "in_flight": floods}))
    control(words_only=0)


main()
