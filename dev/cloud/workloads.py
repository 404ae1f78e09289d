"""Who a workload is without a key of its own: what the endpoints beside it and a web identity are good for, checked as AWS checks.

The file CLOUD_WORKLOADS, all of it optional; what is not there is refused:

    listen       ["127.0.0.1:18099"]: where the endpoints answer, in the clear and unsigned as AWS's do
    container    {"/v2/credentials/<id>": {"role": "query", "seconds": 3600}}      ECS, AWS_CONTAINER_CREDENTIALS_RELATIVE_URI
    pods         {"<token>": {"role": ..., "seconds": ...}}     EKS Pod Identity, AWS_CONTAINER_CREDENTIALS_FULL_URI: /v1/credentials
    instance     {"role": ..., "seconds": ...}                  IMDSv2
    openid       {"issuer": ..., "keys": {"<kid>": "<PEM of an RSA public key>"}}   the account's identity provider
    trust        {"query": {"audience": ..., "subject": ..., "external_id": ...}}   what a role's trust policy wants to see

It is read again for each question, so that a test may change it.
"""
import base64
import binascii
import datetime
import http.server
import json
import pathlib
import re
import secrets
import socketserver
import threading
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from errors import AwsError

TOKEN_MAX_S = 21600
TOKEN_PATH, ROLES_PATH = "/latest/api/token", "/latest/meta-data/iam/security-credentials/"


def decode(part):
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


class Workloads:
    def __init__(self, path, sessions, calls):
        self.path, self.sessions, self.calls = path and pathlib.Path(path), sessions, calls
        self.tokens = {}        # IMDSv2: token -> until when

    def find(self, name):
        return json.loads(self.path.read_text()).get(name, {}) if self.path else {}

    def start(self):
        for address in self.find("listen") or []:
            host, _, port = address.rpartition(":")
            server = Server((host, int(port)), type("Bound", (Handler,), {"workloads": self}))
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def credentials(self, given, name):
        made = self.sessions.make(given["role"], name, {}, given.get("seconds", 3600), datetime.datetime.now(datetime.timezone.utc))
        self.calls.add(identity=made.name, service="workload", action=f"workload:{name}", allowed=True, status=200)
        return {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": made.key_id, "SecretAccessKey": made.secret, "Token": made.token,
                "Expiration": f"{made.expires:%Y-%m-%dT%H:%M:%SZ}"}

    def of_token(self, role, token):
        """The subject of an OpenID token that the account's provider has signed and the role trusts; else what STS says."""
        provider, trust = self.find("openid"), self.find("trust").get(role, {})
        try:
            head, body, signature = token.split(".")
            header, claims = json.loads(decode(head)), json.loads(decode(body))
            key = serialization.load_pem_public_key(provider["keys"][header["kid"]].encode())
            if header["alg"] != "RS256" or claims["iss"] != provider["issuer"]:
                raise ValueError
            key.verify(decode(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
            audience, subject, ends = claims["aud"], claims["sub"], claims["exp"]
        except (ValueError, KeyError, TypeError, InvalidSignature, binascii.Error):
            raise AwsError("InvalidIdentityToken", "The web identity token that was passed could not be validated", 400) from None
        if ends <= time.time():
            raise AwsError("ExpiredTokenException", "The web identity token that was passed is expired or is not valid", 400)
        if not trust.get("subject") or audience != trust.get("audience") or subject != trust["subject"]:
            raise AwsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)
        return subject


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "cordon-cloud", ""
    timeout = 30
    workloads = None

    def do(self):
        w, path = self.workloads, self.path
        if self.command == "PUT" and path == TOKEN_PATH:
            seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if "X-Forwarded-For" in self.headers:
                return self.answer(403)
            if not seconds.isdigit() or not 1 <= int(seconds) <= TOKEN_MAX_S:
                return self.answer(400)
            token = secrets.token_urlsafe(40)
            w.tokens[token] = time.monotonic() + int(seconds)
            return self.answer(200, token, "text/plain")
        if self.command != "GET":
            return self.answer(405)
        if path.startswith("/latest/"):
            return self.instance(path)
        if path == "/v1/credentials":
            given = w.find("pods").get(self.headers.get("Authorization", ""))
            return self.give(given, "eks-pod") if given else self.answer(400, "Service account token cannot be empty")
        given = w.find("container").get(path)
        return self.give(given, "ecs-task") if given else self.answer(400, '{"code":"InvalidIdInRequest"}')

    do_GET = do_PUT = do_POST = do

    def instance(self, path):
        """IMDSv2: nothing without a token that is still good."""
        given = self.workloads.find("instance")
        if self.workloads.tokens.get(self.headers.get("X-aws-ec2-metadata-token"), 0) <= time.monotonic():
            return self.answer(401)
        if given and path == ROLES_PATH:
            return self.answer(200, given["role"], "text/plain")
        return self.give(given, "i-0123456789abcdef0") if given and path == ROLES_PATH + given["role"] else self.answer(404)

    def give(self, given, name):
        self.answer(200, json.dumps(self.workloads.credentials(given, name)), "application/json")

    def answer(self, status, body="", kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, form, *args):
        """What was given out is in calls.jsonl."""


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def check_tags(tags):
    """As STS: names are the same in any case, and what they may hold."""
    if len({name.lower() for name in tags}) != len(tags):
        raise AwsError("InvalidParameterValue", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    for name, value in tags.items():
        if not 1 <= len(name) <= 128 or len(value) > 256 or not re.fullmatch(r"[\w\s.:/=+\-@]*", name + value):
            raise AwsError("ValidationError", "A tag is not valid")
