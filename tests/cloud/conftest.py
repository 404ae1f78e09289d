"""A stand-in of its own for these tests: private port, private folder, real signatures by Debian's boto3."""
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import boto3
import botocore.config
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
REGION = "us-east-1"
NAMES = ["auth", "ingest-worker", "embedding-worker", "query", "audit-writer", "operator", "tester", "launcher"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Model(http.server.BaseHTTPRequestHandler):
    """Stands where the model server stands, and says what reached it."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        reply = json.dumps({"path": self.path, "body": json.loads(body)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *args):
        pass


class Stack:
    def __init__(self, folder, **more):
        self.folder, self.more = folder, more
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.secrets = {name: (f"AKIA{i:016d}", f"secret-of-{name}") for i, name in enumerate(NAMES)}
        self.model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
        threading.Thread(target=self.model.serve_forever, daemon=True).start()
        (folder / "identities.json").write_text(json.dumps([
            {"name": name, "access_key_id": key, "secret_access_key": secret} for name, (key, secret) in self.secrets.items()]))
        self.start()

    def command(self):
        """What runs it, and its environment."""
        return [sys.executable, ROOT / "dev/cloud/gateway.py"], {
            "PATH": "/usr/bin:/bin", "ENVIRONMENT": "development", "AWS_REGION": REGION, "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.environ.get("CORDON_MOTO_PATH", ""), "CLOUD_PORT": str(self.port), "CLOUD_STATE": str(self.folder / "state"),
            "CLOUD_IDENTITIES": str(self.folder / "identities.json"), "CLOUD_BEDROCK_PORT": str(self.model.server_port),
            "CLOUD_POLICIES": f"{ROOT}/terraform/iam:{ROOT}/dev/cloud/policies",
            "CLOUD_DOCUMENT_BUCKET": "cordon-documents", "CLOUD_SHARE_BUCKET": "cordon-shares",
            "CLOUD_ANCHOR_BUCKET": "cordon-anchor", **self.more}

    def start(self):
        command, env = self.command()
        self.process = subprocess.Popen(command, env=env)
        for _ in range(800):
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=1).read()
                return
            except OSError:
                assert self.process.poll() is None, "the gateway stopped"
                time.sleep(0.05)
        raise AssertionError("the gateway does not answer")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def client(self, service, name, secret=None, **config):
        key, real = self.secrets[name]
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret or real,
            config=botocore.config.Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, **config))

    def credentials_for_tenant(self, name, tenant, **more):
        """What a process has for one tenant: a session of its role, tagged."""
        return self.client("sts", name).assume_role(RoleArn=f"arn:aws:iam::123456789012:role/{name}-tenant", RoleSessionName="test",
                                                    Tags=[{"Key": "tenant_id", "Value": tenant}], **more)["Credentials"]

    def session_client(self, service, credentials, **config):
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"], aws_session_token=credentials["SessionToken"],
            config=botocore.config.Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, **config))

    def for_tenant(self, service, name, tenant):
        return self.session_client(service, self.credentials_for_tenant(name, tenant))

    def calls_until(self, is_last):
        """The call log once its newest line is the awaited one: a line is written after its answer was sent."""
        for _ in range(100):
            calls = [json.loads(line) for line in (self.folder / "state/calls.jsonl").read_text().splitlines()]
            if calls and is_last(calls[-1]):
                return calls
            time.sleep(0.02)
        raise AssertionError(f"the call log ends with {calls[-1:]}")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.model.shutdown()


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("cloud"))
    yield stack
    stack.stop()


@pytest.fixture
def tenant_key(cloud):
    """A tenant's key as auth makes it, with its two blobs."""
    kms = cloud.client("kms", "auth")
    key = kms.create_key(Description="tenant", Tags=[{"TagKey": "cordon", "TagValue": "tenant-key"}])["KeyMetadata"]["KeyId"]
    blob = kms.generate_data_key_without_plaintext(
        KeyId=key, KeySpec="AES_256", EncryptionContext={"tenant_id": "t-1", "purpose": "data"})["CiphertextBlob"]
    return key, blob
