"""End-to-end tests: a whole stack of its own (built binaries, real PostgreSQL, real ZeroMQ with CURVE, the
AWS stand-in, the OpenID provider), driven over HTTP as a client would. Nothing of Cordon is imported."""
import contextlib
import json
import os
import pathlib
import random
import socket
import subprocess
import time
import uuid

import psycopg2
import pytest
import requests

from collector import Collector
from pulse import Pulse

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATE = pathlib.Path(os.environ.get("CORDON_E2E_HOME", ROOT / ".cordon" / "test"))
PROCESSES = ["edge", "auth", "ingest-worker", "embedding-worker", "query", "audit-writer"]


def free_base():
    """A block of 90 ports in which nobody listens; a random one, as two suites may start at once."""
    for base in random.sample(range(21000, 29000, 100), 80):
        taken = False
        for port in [base - 1] + [base + n for n in range(90)]:
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind(("127.0.0.1", port))
                except OSError:
                    taken = True
                    break
        if not taken:
            return base
    raise RuntimeError("no free block of ports")


def wait_for(what, probe, seconds=60, every=0.05):
    """Ask probe until it gives something true; fail with `what` when the deadline passes."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            last = probe()
            if last:
                return last
        except (requests.ConnectionError, OSError) as error:
            last = error
        time.sleep(every)
    raise AssertionError(f"{what}: not within {seconds} s (last: {last!r})")


class Stack:
    """One running Cordon and the ways to reach it."""

    def __init__(self, env):
        self.env = env
        self.info = json.loads((STATE / "stack.json").read_text())
        self.url = self.info["edge"]
        self.tokens = {}

    def cordon(self, *args, check=True):
        done = subprocess.run([str(ROOT / "cordon"), *args], cwd=ROOT, env=self.env, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise AssertionError(f"./cordon {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout.strip()

    def token(self, tenant="demo", role="clinician", user=None):
        key = (tenant, role, user)
        made, token = self.tokens.get(key, (0, None))
        if time.monotonic() - made > 300:
            args = ["token", "--role", role] + (["--tenant", tenant] if tenant else []) + (["--user", user] if user else [])
            token = self.cordon(*args).splitlines()[-1]
            self.tokens[key] = (time.monotonic(), token)
        return token

    def call(self, method, path, tenant="demo", role="clinician", user=None, token=None, timeout=60, **kwargs):
        headers = dict(kwargs.pop("headers", {}))
        token = token if token is not None else self.token(tenant, role, user)
        if token:
            headers.setdefault("Authorization", f"Bearer {token}")
        return requests.request(method, self.url + path, headers=headers, timeout=timeout, **kwargs)

    def upload(self, body, content_type="text/plain", name="note.txt", **who):
        return self.call("POST", "/api/v1/documents", data=body, headers={
            "Content-Type": content_type, "Content-Disposition": f'attachment; filename="{name}"'}, **who)

    def wait_ready(self, document_id, seconds=60, **who):
        def settled():
            answer = self.call("GET", f"/api/v1/documents/{document_id}", **who)
            document = answer.json().get("document", answer.json()) if answer.status_code == 200 else None
            return document if document and document["status"] != "processing" else None
        return wait_for(f"document {document_id} settled", settled, seconds, 0.2)

    def ingest(self, body, content_type="text/plain", name="note.txt", **who):
        answer = self.upload(body, content_type, name, **who)
        assert answer.status_code == 202, answer.text
        document = self.wait_ready(answer.json()["document_id"], **who)
        assert document["status"] == "ready", document
        return document

    def pid(self, process):
        return int(self.cordon("pid", process))

    def stop(self, process):
        self.cordon("stop", process)

    def start(self, process):
        self.cordon("start", process)
        wait_for(f"{process} ready", lambda: self.is_ready(), 30)

    def is_ready(self):
        return requests.get(self.url + "/api/v1/health/ready", timeout=5).status_code == 200

    @contextlib.contextmanager
    def database(self, url=None):
        """A connection of the superuser, each statement by itself (psycopg2's own `with` would open a transaction)."""
        # A statement that waits for a lock for ever is to fail by its own name.
        connection = psycopg2.connect(url or self.info["postgres"]["admin_url"], connect_timeout=30, options="-c statement_timeout=300s")
        connection.autocommit = True
        try:
            yield connection
        finally:
            connection.close()

    def secret(self, process, name):
        return (STATE / "secrets" / process / name).read_text().rstrip("\n")

    def offboard(self, *words, identity="operator", database=None, **more):
        """cordon-offboard as an operator runs it; with CORDON_FAULT_DIR the one whose fault points obey files."""
        cloud, made, build = self.info["cloud"], STATE / "secrets/.made", ROOT / ".cordon/build/release"
        program = build / ("faults" if "CORDON_FAULT_DIR" in more else "services/offboard") / "cordon-offboard"
        return subprocess.run([program, *words], capture_output=True, text=True, env={
            "PATH": os.environ["PATH"], "ENVIRONMENT": "development", "DATABASE_URL": database or self.info["postgres"]["admin_url"],
            "AWS_REGION": cloud["region"], "AWS_ENDPOINT_URL_KMS": cloud["url"], "AWS_ENDPOINT_URL_STS": cloud["url"],
            "AWS_ACCESS_KEY_ID": (made / f"aws-{identity}.id").read_text(), "AWS_SECRET_ACCESS_KEY": (made / f"aws-{identity}.secret").read_text(), **more})

    def at_cloud(self):
        """What boto3's clients need, with every right."""
        cloud = self.info["cloud"]
        return {"endpoint_url": cloud["url"], "region_name": cloud["region"], "aws_access_key_id": cloud["access_key_id"], "aws_secret_access_key": cloud["secret_access_key"]}

    def later(self, seconds):
        """KMS deletes what is due so much later. Only the stand-in can be told so, by loopback."""
        for ahead in (seconds, 0):
            requests.post(f"{self.info['cloud']['url']}/_control", json={"clock_ahead_s": ahead}, timeout=10).raise_for_status()


@contextlib.contextmanager
def running_stack(*words, base=None, **more):
    """A stack with two tenants, demo and lakeside, and no documents. words: for up; more: into the environment of ./cordon."""
    base = base or free_base()
    env = {**os.environ, "CORDON_HOME": str(STATE), "CORDON_PORT_BASE": str(base), "PORT": str(base - 1), **more}
    keep = os.environ.get("CORDON_E2E_KEEP")
    subprocess.run([str(ROOT / "cordon"), "down"], cwd=ROOT, env=env, capture_output=True)
    if not keep:
        subprocess.run(["rm", "-rf", str(STATE)], check=True)
    up = subprocess.run([str(ROOT / "cordon"), "up", "--bare", *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert up.returncode == 0, up.stdout + up.stderr
    running = Stack(env)
    try:
        for slug, name in (("demo", "Riverside Clinic"), ("lakeside", "Lakeside Family Services")):
            running.cordon("tenants", "create", slug, name)
        yield running
    finally:
        if not keep:
            subprocess.run([str(ROOT / "cordon"), "down"], cwd=ROOT, env=env, capture_output=True)


@pytest.fixture(scope="session")
def collector():
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture(scope="session")
def stack(collector):
    with running_stack(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as running:
        yield running


def said(stack, process, *events):
    """Lines about these events in the logs of a process and its replicas, as far back as they are kept."""
    for name, info in stack.info["processes"].items():
        if name.partition(".")[0] == process:
            for file in pathlib.Path(info["log"]).parent.glob("[@c]*"):         # s6-log: current, and before it @TIME.s
                for line in open(file, errors="replace"):
                    if any(f'"event":"{event}"' in line for event in events):
                        yield json.loads(line)


@pytest.fixture(scope="session")
def pulse(stack):
    with Pulse(stack) as witness:
        yield witness


@pytest.fixture(scope="session")
def samples(stack):
    """The sample documents of both tenants, uploaded and ready: {(tenant, file): document}."""
    manifest = json.loads((ROOT / "dev" / "samples" / "manifest.json").read_text())
    uploaded = []
    for row in manifest:
        body = (ROOT / "dev" / "samples" / row["tenant"] / row["file"]).read_bytes()
        answer = stack.upload(body, row["content_type"], row["file"], tenant=row["tenant"])
        assert answer.status_code == 202, answer.text
        uploaded.append((row, answer.json()["document_id"]))
    return {(row["tenant"], row["file"]): stack.wait_ready(document_id, 120, tenant=row["tenant"])
            for row, document_id in uploaded}


@pytest.fixture
def fresh_uuid():
    return str(uuid.uuid4())
