"""The whole system over HTTP: an upload until it is ready, searches, answers, requests per second, memory.

One client, one thing at a time. What the model takes, by the stand-in's own log of its calls, is set apart:
it is the development machine's stand-in, not Bedrock. ./cordon bench starts it; it prints two tables and a
line of JSON, and has bench_http print its own."""
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import requests

EDGE, TOKEN = os.environ["BENCH_EDGE"], os.environ["BENCH_TOKEN"]
DOCUMENTS, QUESTIONS = int(os.environ.get("BENCH_DOCUMENTS", 60)), int(os.environ.get("BENCH_QUESTIONS", 60))
CALLS, PIDS = pathlib.Path(sys.argv[1]), dict(pair.split("=") for pair in " ".join(sys.argv[2:]).split())
TOKENS = 2000 if DOCUMENTS > 10 else 50
ASKED = ["Which diuretic was started?", "When is the follow-up appointment?", "Why was amlodipine stopped?", "Who visits the patient at home?"]

session = requests.Session()
session.headers["Authorization"] = f"Bearer {TOKEN}"


def call(method, path, wanted, **kwargs):
    answer = session.request(method, EDGE + path, timeout=60, **kwargs)
    if answer.status_code != wanted:
        sys.exit(f"bench: {method} {path}: {answer.status_code} {answer.text}")
    return answer.json()


def unix(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def note(n):
    """About 1.5 KB as a clinician writes it; no two alike."""
    return (f"Discharge note {n}. Patient {n:04d} was admitted with shortness of breath and swelling of both ankles.\n"
            + "".join(f"Day {day}: weight {70 + (n + day) % 9}.{day} kg, potassium {3 + (n * day % 20) / 10:.1f} mmol/l, furosemide 40 mg "
                      "twice daily continued, no fever, walks with a frame.\n" for day in range(1, 10))
            + "Amlodipine was stopped because of ankle swelling. Follow-up in two weeks with the heart failure nurse.\n").encode()


def upload(n):
    """The ids, and (began, answered, ready) in Unix seconds; ready is when the transaction began that says so, by the
    database's clock, which is this machine's."""
    began = time.time()
    made = call("POST", "/api/v1/documents", 202, data=note(n), headers={
        "Content-Type": "text/plain", "Content-Disposition": f'attachment; filename="note-{n}.txt"'})
    answered = time.time()
    while True:
        document = call("GET", f"/api/v1/documents/{made['document_id']}", 200)
        document = document.get("document", document)
        if document["status"] == "ready":
            return made, (began, answered, unix(document["ready_at"]))
        if document["status"] != "processing" or time.time() > began + 60:
            sys.exit(f"bench: the upload became {document['status']}")
        time.sleep(0.02)


def timed(path, **body):
    began = time.time()
    call("POST", path, 200, json=body)
    return began, time.time()


def first_token(question):
    """When a streamed answer was asked for, and when its first token came; the rest of it is read as well."""
    began, came = time.time(), None
    with session.post(EDGE + "/api/v1/query", json={"question": question}, headers={"Accept": "text/event-stream"}, timeout=60, stream=True) as answer:
        for line in answer.iter_lines(chunk_size=1):
            if came is None and line.startswith(b"event: token"):
                came = time.time()
    if came is None:
        sys.exit(f"bench: a streamed answer without a token: {answer.status_code}")
    return began, came


def model_seconds(spans):
    """For each span, how much of it one or more calls of the model's stand-in were running."""
    calls = [(began, ended) for service, began, ended in log_of_calls() if service == "bedrock"]
    return [running(calls, span[0], span[-1]) for span in spans]


def log_of_calls():
    """(service, began, ended) of each call that the stand-ins answered, in order."""
    calls = [json.loads(line) for line in CALLS.read_text().splitlines()]
    return sorted(((c["service"], unix(c["ts"]) - c["duration_ms"] / 1000, unix(c["ts"])) for c in calls), key=lambda c: c[1:])


def running(calls, began, ended):
    seconds, seen = 0, began
    for start, end in calls:
        start, end = max(start, seen), min(end, ended)
        if end > start:
            seconds, seen = seconds + end - start, end
    return seconds


def quantile(values, q):
    return sorted(values)[round(q * (len(values) - 1))]


def row(what, totals, models):
    own = [total - model for total, model in zip(totals, models)]
    figures = {name: round(1000 * quantile(values, q), 1) for name, values, q in (
        ("p50", totals, 0.5), ("p99", totals, 0.99), ("model_p50", models, 0.5), ("own_p50", own, 0.5), ("own_p99", own, 0.99))}
    print(f"| {what} | {len(totals)} | {figures['p50']} ms | {figures['p99']} ms | {figures['model_p50']} ms | "
          f"{figures['own_p50']} ms | {figures['own_p99']} ms | {figures['own_p50'] / figures['p50']:.2f} |")
    return {"what": what, "count": len(totals), **{name + "_ms": value for name, value in figures.items()}}


def postgres_seconds(cursor):
    """Processor time by PostgreSQL, whose ended processes its postmaster has on its account. cursor: of a connection to it."""
    def spent(pid):
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    cursor.execute("SELECT pg_backend_pid()")
    postmaster = spent(cursor.fetchone()[0])[1]
    children = open(f"/proc/{postmaster}/task/{postmaster}/children").read().split()
    return (sum(map(int, spent(postmaster)[11:15])) + sum(int(t) for pid in children for t in spent(pid)[11:13])) / os.sysconf("SC_CLK_TCK")


def memory():
    print("\n| process | memory now (RSS) | most so far |\n|---|--:|--:|")
    sizes = {}
    for name, pid in PIDS.items():
        fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
        sizes[name] = [int(fields[field].split()[0]) / 1024 for field in ("VmRSS", "VmHWM")]
        print(f"| {name} | {sizes[name][0]:.1f} MiB | {sizes[name][1]:.1f} MiB |")
    return sizes


def tokens():
    """A file of so many tokens that none is used twice within the second for which the edge keeps its ticket."""
    with tempfile.NamedTemporaryFile("w", delete=False) as made:
        for _ in range(TOKENS):
            answer = session.post(os.environ["BENCH_ISSUER"] + "/token", auth=("cordon-cli", os.environ["BENCH_CLI_SECRET"]), timeout=60, headers={"Authorization": None},
                                  data={"grant_type": "urn:cordon:dev:token", "tenant": "demo", "roles": "clinician", "user": "bench", "ttl": 3600})
            made.write(answer.json()["access_token"] + "\n")
    return made.name


def main():
    for n in range(5):
        made, _ = upload(9000 + n)
        timed("/api/v1/search", question=ASKED[0])
        timed("/api/v1/query", question=ASKED[0])
    uploads = [upload(n)[1] for n in range(DOCUMENTS)]
    searches = [timed("/api/v1/search", question=ASKED[n % 4]) for n in range(QUESTIONS)]
    answers = [timed("/api/v1/query", question=ASKED[n % 4]) for n in range(QUESTIONS)]
    streams = [first_token(ASKED[n % 4]) for n in range(QUESTIONS)]
    print(f"### system\n\nThe six processes, PostgreSQL and the stand-ins on one machine, {os.cpu_count()} cores, load "
          f"{os.environ['BENCH_LOAD_BEFORE']} before the start; one client, notes of {len(note(0))} bytes. "
          "*model* is the time that the model's stand-in took, by its log; *own* is the rest.\n")
    print("| what | count | p50 | p99 | model p50 | own p50 | own p99 | own share |\n|---|--:|--:|--:|--:|--:|--:|--:|")
    rows = [row("upload: POST until 202", [answered - began for began, answered, _ in uploads], [0] * len(uploads)),
            row("upload: POST until ready", [ready - began for began, _, ready in uploads], model_seconds(uploads)),
            row("POST /api/v1/search", [span[1] - span[0] for span in searches], model_seconds(searches)),
            row("POST /api/v1/query", [span[1] - span[0] for span in answers], model_seconds(answers)),
            row("the same as a stream, until the first token", [span[1] - span[0] for span in streams], model_seconds(streams))]
    print(flush=True)
    many = tokens()
    subprocess.run([os.environ["BENCH_PROGRAM"]], check=True, env={**os.environ, "BENCH_JOB_ID": made["job_id"], "BENCH_TOKENS": many})
    os.unlink(many)
    print(json.dumps({"bench": "system", "load_before": float(os.environ["BENCH_LOAD_BEFORE"]), "rows": rows, "memory_mib": memory()}))


if __name__ == "__main__":
    main()
