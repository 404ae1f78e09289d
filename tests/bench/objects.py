"""One long object up and down: through Cordon, and the same bytes by curl to the same stand-in for S3, in turns, with the
processor time and the memory of each process. ./cordon bench starts it; it prints a table and a line of JSON."""
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile

import boto3
import botocore.config

EDGE, TOKEN, BYTES = os.environ["BENCH_EDGE"], os.environ["BENCH_TOKEN"], int(os.environ.get("BENCH_OBJECT_BYTES", 1 << 30))
ROUNDS, PIDS = int(os.environ.get("BENCH_RUNS", 3)), dict(pair.split("=") for pair in sys.argv[1].split())
CLOUD = json.loads(pathlib.Path(os.environ["BENCH_STACK"]).read_text())["cloud"]
BUCKET, OURS = "cordon-documents", ("edge", "ingest-worker", "query")
s3 = boto3.client("s3", endpoint_url=CLOUD["url"], region_name=CLOUD["region"], aws_access_key_id=CLOUD["access_key_id"],
                  aws_secret_access_key=CLOUD["secret_access_key"], config=botocore.config.Config(signature_version="s3v4", s3={"addressing_style": "path"}))


def curl(*words):
    """Seconds and status; what it says else goes to nobody."""
    done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code} %{time_total}", *map(str, words)], check=True, capture_output=True, text=True)
    body, _, last = done.stdout.rpartition("\n")
    status, seconds = last.split()
    if not status.startswith("2"):
        sys.exit(f"bench: curl {words[-1]}: {status} {body[:300]}")
    return float(seconds), body


def processor():
    """Seconds of processor time that each process has had."""
    ticks = os.sysconf("SC_CLK_TCK")
    return {name: sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / ticks for name, pid in PIDS.items()}


def memory(field):
    return {name: int(re.search(rf"{field}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024 for name, pid in PIDS.items()}


def watched(work):
    """(seconds, processor seconds by process, MiB by which each grew at most, what work gave)."""
    for pid in PIDS.values():
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")         # VmHWM begins anew
    rss, spent = memory("VmRSS"), processor()
    seconds, body = work()
    return seconds, {n: s - spent[n] for n, s in processor().items()}, {n: m - rss[n] for n, m in memory("VmHWM").items()}, body


def up(file):
    return curl("-X", "POST", "-H", f"Authorization: Bearer {TOKEN}", "-H", "Content-Type: application/pdf", "-H", "Expect:",
                "-T", file, f"{EDGE}/api/v1/documents")


def sealing():
    """{what: seconds of processor time for a GB}, of one thread of the bench of cryptography that does nothing else. What it
    prepares is counted too: some hundredths."""
    cost, run_ms = {}, 3000
    for row, what in ((1, "seal"), (2, "open")):
        before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        out = subprocess.run([os.environ["BENCH_PROGRAM"]], check=True, capture_output=True, text=True,
                             env={**os.environ, "BENCH_ROW": str(row), "BENCH_RUN_MS": str(run_ms)}).stdout
        mb = float(re.search(r": ([\d.]+) MB/s", out)[1]) * run_ms / 1000
        cost[what] = (sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before) / mb * 1000
    return cost


def main():
    rows = {"up, curl to the stand-in": [], "up, through Cordon": [], "down, curl from the stand-in": [], "down, through Cordon": []}
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(BYTES >> 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        put, get = (s3.generate_presigned_url(f"{verb}_object", Params={"Bucket": BUCKET, "Key": "bench/bare"}, ExpiresIn=3600) for verb in ("put", "get"))
        for _ in range(ROUNDS):
            rows["up, curl to the stand-in"].append(watched(lambda: curl("-H", "Expect:", "-T", file.name, put)))
            rows["up, through Cordon"].append(watched(lambda: up(file.name)))
            document = json.loads(rows["up, through Cordon"][-1][3])["document_id"]
            rows["down, curl from the stand-in"].append(watched(lambda: curl("-o", "/dev/null", get)))
            rows["down, through Cordon"].append(watched(lambda: curl("-H", f"Authorization: Bearer {TOKEN}", "-o", "/dev/null",
                                                                     f"{EDGE}/api/v1/documents/{document}/content")))
    gb, cost = BYTES / 1e9, sealing()
    print(f"### objects\n\nOne object of {BYTES / 1e6:,.0f} MB of random bytes, sent as a PDF, {ROUNDS} times in turns, on {os.cpu_count()} cores that all processes and the "
          f"stand-in share, load {os.environ['BENCH_LOAD_BEFORE']} before the start. *ratio* is the rate beside curl's, of the same bytes to and from the same "
          "stand-in (Python, which hashes every body); *processor* is seconds for a GB; *grew* is the most resident memory beyond that before.\n")
    print("| what | rate | ratio | processor: " + " | processor: ".join(OURS) + " | grew: " + " | grew: ".join(OURS) + " |\n|---|--:|--:|" + "--:|" * 2 * len(OURS))
    out = []
    for what, runs in rows.items():
        bare = rows["up, curl to the stand-in" if what.startswith("up") else "down, curl from the stand-in"]
        mb = statistics.median(BYTES / 1e6 / seconds for seconds, *_ in runs)
        ratio = mb / statistics.median(BYTES / 1e6 / seconds for seconds, *_ in bare)
        spent = {n: statistics.median(run[1][n] for run in runs) / gb for n in OURS}
        grew = {n: max(run[2][n] for run in runs) for n in OURS}
        out.append({"what": what, "mb_s": round(mb, 1), "ratio": round(ratio, 3), "processor_s_per_gb": spent, "grew_mib": grew})
        is_bare = "curl" in what
        print(f"| {what} | {mb:,.0f} MB/s | {'' if is_bare else f'{ratio:.2f}'} | " + " | ".join("" if is_bare else f"{spent[n]:.2f} s" for n in OURS)
              + " | " + " | ".join("" if is_bare else f"{grew[n]:.1f} MiB" for n in OURS) + " |")
    print("\nEncryption alone, of one thread: " + ", ".join(f"{seconds:.2f} s of processor time to {what} a GB" for what, seconds in cost.items()) + ".")
    print(json.dumps({"bench": "objects", "bytes": BYTES, "rows": out, "encryption_s_per_gb": cost}))


main()
