#!/usr/bin/python3
"""The AWS stand-in's only door: nothing behind it answers unless signature, date, body and policy are right.

    client --SigV4--> gateway --+-- S3 on disk (s3.py)
                                +-- KMS, Secrets Manager, Logs: moto in this process (moto_backends.py)
                                +-- STS GetCallerIdentity and the AssumeRoles, here; endpoints beside workloads: workloads.py
                                +-- Bedrock runtime: the model server on another loopback port

Every call leaves one line in calls.jsonl: who, what, on which resource, allowed or not, status, which fault it met and
whether it took effect. Never a body; of a text for a model its digest, and the marks that tests put into it.
GET and POST /_control: faults on demand (faults.py), unsigned and from loopback.

Environment: CLOUD_PORT, CLOUD_STATE (folder), CLOUD_IDENTITIES (file), CLOUD_POLICIES (folders, ':' between),
             CLOUD_BEDROCK_PORT, CLOUD_DOCUMENT_BUCKET, CLOUD_SHARE_BUCKET, CLOUD_ANCHOR_BUCKET, AWS_REGION, ENVIRONMENT=development;
             CLOUD_WORKLOADS (file, may be missing: workloads.py)
"""
import contextlib
import datetime
import email.utils
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import re
import select
import signal
import socket
import socketserver
import struct
import sys
import threading
import time
import traceback
import uuid
from urllib.parse import parse_qsl, unquote

import faults
import iam
import s3
import s3_store
import sessions
import sigv4
import workloads
from errors import AwsError, document, refuse
from moto_backends import Keys, Moto, Secrets

ACCOUNT = "123456789012"
SIGNING_ALIAS, SECRETS_ALIAS = "alias/cordon-audit-signing", "alias/cordon-secrets"
MARK = re.compile(rb"\bmark-[0-9a-f]{12}\b")      # tests/faults: which document or question a text is of
SMALL_BODY = 16 << 20   # everything but S3 objects and parts
CALLS_KEPT = 64 << 20   # the call log is put aside at the start when it is longer
MODEL_ACTIONS = {"invoke": "InvokeModel", "converse": "InvokeModel",
                 "invoke-with-response-stream": "InvokeModelWithResponseStream", "converse-stream": "InvokeModelWithResponseStream"}
PROFILE_GEOGRAPHIES = ("us", "eu", "apac", "global")
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class CallLog:
    def __init__(self, path):
        if path.exists() and path.stat().st_size > CALLS_KEPT:
            path.rename(path.with_suffix(".jsonl.1"))
        self.file, self.lock = open(path, "a", buffering=1), threading.Lock()

    def add(self, **fields):
        fields["ts"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
        with self.lock:
            self.file.write(json.dumps(fields) + "\n")


class Cloud:
    """The services and what they share. One for the process; handlers are one for each connection."""

    def __init__(self, env):
        state = pathlib.Path(env["CLOUD_STATE"])
        state.mkdir(parents=True, exist_ok=True)
        self.region = env["AWS_REGION"]
        self.bedrock_port = int(env["CLOUD_BEDROCK_PORT"])
        self.calls, self.faults = CallLog(state / "calls.jsonl"), faults.Faults()
        self.moto = Moto(state / "moto", ACCOUNT, self.region)
        self.keys = Keys(self.moto, self.require)
        self.secrets = Secrets(self.moto, self.keys, self.require)
        self.store = s3_store.Store(state / "s3")
        self.s3 = s3.S3(self.store, self.keys)
        values = {"region": self.region, "account_id": ACCOUNT, "document_bucket": env["CLOUD_DOCUMENT_BUCKET"],
                  "share_bucket": env["CLOUD_SHARE_BUCKET"], "anchor_bucket": env["CLOUD_ANCHOR_BUCKET"], "signing_key_arn": self.own_key(SIGNING_ALIAS, "SIGN_VERIFY", "ECC_NIST_P256", "audit checkpoints"),
                  "secrets_key_arn": self.own_key(SECRETS_ALIAS, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "settings in Secrets Manager")}
        self.identities = iam.load(env["CLOUD_IDENTITIES"], env["CLOUD_POLICIES"].split(":"), values)
        # a workload's role has its process's policy
        roles = {i.name: i.statements for i in self.identities.values()} | iam.load_roles(env["CLOUD_POLICIES"].split(":"), values)
        self.sessions = sessions.Sessions(state, roles, ACCOUNT)
        self.workloads = workloads.Workloads(env.get("CLOUD_WORKLOADS"), self.sessions, self.calls)
        self.workloads.start()
        for bucket, object_lock, versioning in ((values["document_bucket"], False, "Enabled"), (values["share_bucket"], False, ""),
                                                (values["anchor_bucket"], True, "Enabled")):
            if self.store.bucket(bucket) is None:
                self.store.create_bucket(bucket, object_lock)
            self.store.set_bucket(bucket, "versioning", versioning)

    def identity_of(self, key_id, token):
        """A user by its long-lived key, or a session by its key and token."""
        return self.sessions.find(key_id, token) if token else self.identities.get(key_id)

    def own_key(self, alias, usage, spec, what):
        """A key that Terraform makes in a real account: the one that signs checkpoints, the one of secrets."""
        backend = self.moto.backends["kms"]
        known = backend.get_key_id_from_alias(alias)
        if known is None:
            key = backend.create_key(None, usage, spec, what, [])
            backend.create_alias(key.id, alias)
            self.moto.save("kms")
            return key.arn
        return backend.keys[known].arn

    def require(self, identity, action, resource, context=None):
        iam.require(identity, action.partition(":")[0], action, resource, context)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "cordon-cloud", ""
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = 120
    cloud = None  # set by main()

    def do(self):
        began, self.request_id = time.monotonic(), str(uuid.uuid4())
        self.identity = self.action = self.resource = self.operation = self.fault = None
        self.unread, self.sent, self.took_effect, status, allowed = 0, False, False, 500, False
        self.text = {}
        service = "s3"
        try:
            if self.path == "/health":
                self.answer(200, {"Content-Type": "application/json"}, b'{"status":"ok"}\n')
                return
            request = self.parse()
            if self.path == "/_control":
                self.serve_control(request)
                return
            service = sigv4.service_of(request)
            status = self.dispatch(request, service)
            allowed = True
        except AwsError as error:
            status = error.status
            allowed = self.action is not None and "AccessDenied" not in error.code
            self.refuse_with(error, service)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            allowed = self.fault is not None
            status, self.close_connection = 499, True
        except Exception:  # the stand-in's own fault: say so, in the log and to the caller
            traceback.print_exc()
            self.refuse_with(AwsError("InternalFailure", "the stand-in failed; see its log", 500), service)
        if self.path not in ("/health", "/_control"):
            self.cloud.calls.add(
                request_id=self.request_id, identity=self.identity and self.identity.name, service=service, action=self.action,
                operation=self.operation, resource=self.resource, allowed=allowed, status=status,
                fault=self.fault and self.fault.kind, effect=self.took_effect, duration_ms=round(1000 * (time.monotonic() - began), 2),
                **self.text)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do

    def parse(self):
        headers = {}
        for name, value in self.headers.items():
            name = name.lower()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        if "transfer-encoding" in headers:
            self.close_connection = True
            raise AwsError("MissingContentLength", "You must provide the Content-Length HTTP header.", 411)
        length = headers.get("content-length", "0")
        if not length.isdigit():
            self.close_connection = True
            raise AwsError("InvalidArgument", "Content-Length is not a number")
        self.unread = int(length)
        path, _, query = self.path.partition("?")
        return sigv4.Request(self.command, path, query, headers)

    def take_small(self, limit=SMALL_BODY):
        if self.unread > limit:
            raise AwsError("RequestEntityTooLarge", "The body is too large for this call", 413)
        body = self.rfile.read(self.unread)
        if len(body) < self.unread:
            raise ConnectionResetError
        self.unread = 0
        return body

    def serve_control(self, request):
        body = self.take_small()
        try:
            if request.method == "POST":
                self.cloud.faults.set(json.loads(body))
                self.cloud.keys.delete_due(self.cloud.faults.clock_ahead_s)
        except (ValueError, TypeError, AttributeError) as error:
            raise AwsError("InvalidArgument", str(error)) from None
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(self.cloud.faults.state()).encode() + b"\n")

    def strike(self, service, operation):
        """Whatever a test wants to befall this call. What it says before the effect is answered or raised here: True."""
        self.operation = operation
        self.fault = fault = self.cloud.faults.strike(
            service=service, operation=operation, identity=self.identity.name.removesuffix("-tenant"), resource=self.resource)
        if fault is None or fault.kind in faults.AFTER:
            return False
        while self.unread:      # the whole request is heard first
            self.unread -= len(self.rfile.read(min(self.unread, 1 << 20))) or self.unread
        if fault.kind == "hang":
            fault.wait(self.is_gone)
        if fault.kind in ("hang", "reset"):
            self.reset()
        if fault.kind in faults.REFUSALS:
            raise fault.refusal(service)
        body, kind = b"", "application/xml"
        if fault.kind == "ok_error":
            kind, body, _ = document(AwsError("InternalError" if service == "s3" else "InternalFailure", "please try again", 500),
                                     service, self.request_id)
        self.answer(200, {"Content-Type": kind}, body)
        return True

    def is_gone(self):
        """Has the client given up?"""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = self.sent = True
        raise ConnectionResetError

    def now(self):
        return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.cloud.faults.clock_ahead_s)

    def date_time_string(self, timestamp=None):
        return email.utils.format_datetime(self.now(), usegmt=True)

    def dispatch(self, request, service):
        if service == "s3":
            return self.serve_s3(request)
        body = self.take_small()
        if service == "sts" and b"Action=AssumeRoleWithWebIdentity&" in body:       # the token is all the identity there is
            return self.serve_sts(request, body)
        signed = sigv4.verify(request, self.cloud.identity_of, self.cloud.region, small_body=body, now=self.now())
        self.identity = signed.identity
        if service in ("kms", "secretsmanager", "logs"):
            return self.serve_moto(request, service, body)
        if service == "sts":
            return self.serve_sts(request, body)
        if service == "bedrock":
            return self.serve_bedrock(request, body)
        raise AwsError("UnknownOperationException", f"the stand-in has no service '{service}'", 404)

    def serve_s3(self, request):
        signed = sigv4.verify(request, self.cloud.identity_of, self.cloud.region, now=self.now())
        self.identity = signed.identity
        call = s3.Call(request)
        self.action, self.resource = call.action, call.resource
        self.cloud.require(self.identity, call.action, call.resource, call.context)
        if self.strike("s3", call.operation):
            return 200

        def take_body(sink):
            if sink is None:
                body = self.take_small()
                sigv4.check_body("s3", signed.payload_sha256, hashlib.sha256(body).hexdigest())
                return body
            while self.unread:
                chunk = self.rfile.read(min(self.unread, 1 << 20))
                if not chunk:
                    raise ConnectionResetError
                self.unread -= len(chunk)
                sink.write(chunk)
            sigv4.check_body("s3", signed.payload_sha256, sink.sha256.hexdigest())
            return None
        if request.method == "PUT" and "content-length" not in request.headers:
            raise AwsError("MissingContentLength", "You must provide the Content-Length HTTP header.", 411)
        reply = self.cloud.s3.handle(call, self.identity, take_body)
        self.took_effect = True
        self.answer(reply.status, reply.headers, reply.body, reply.chunks, reply.length)
        return reply.status

    def serve_moto(self, request, service, body):
        action = request.headers.get("x-amz-target", "").rpartition(".")[2]
        if request.method != "POST" or not action.isalpha():
            raise AwsError("UnknownOperationException", "x-amz-target names no operation", 400)
        self.action = f"{service}:{action}"
        if service == "kms":
            self.resource = self.cloud.keys.check(self.identity, action, body)
        elif service == "secretsmanager":
            self.resource = self.cloud.secrets.check(self.identity, action, body)
        else:
            self.resource = self.log_group(body)
            self.cloud.require(self.identity, self.action, self.resource)
        if self.strike(service, action):
            return 200
        status, headers, payload = self.cloud.moto.call(service, action, request.headers, body)
        self.took_effect = status < 300
        if payload == b"null":  # moto's way of saying nothing; AWS sends no body, to CreateAlias for one
            payload = b""
        self.answer(status, {"Content-Type": headers.get("Content-Type", "application/x-amz-json-1.1")}, payload)
        return status

    def log_group(self, body):
        name = json.loads(body or b"{}").get("logGroupName") or ""
        return f"arn:aws:logs:{self.cloud.region}:{ACCOUNT}:log-group:{name}" if name else "*"

    def serve_sts(self, request, body):
        fields = dict(parse_qsl(body.decode("latin-1"))) or dict(parse_qsl(request.raw_query))
        operation = fields.get("Action")
        self.action, self.resource = f"sts:{operation}", "*"
        if operation == "GetCallerIdentity":    # which needs no permission in AWS either
            inner = f"<Arn>{self.identity.arn}</Arn><UserId>{self.identity.key_id}</UserId><Account>{ACCOUNT}</Account>"
        elif operation == "AssumeRole":
            inner = self.assume_role(fields)
        elif operation == "AssumeRoleWithWebIdentity":
            inner = self.assume_with_token(fields)
        else:
            self.cloud.require(self.identity, self.action, self.resource)
            raise AwsError("InvalidAction", f"the stand-in does not do {self.action}")
        if self.strike("sts", operation):
            return 200
        self.took_effect = True
        text = (f'<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{operation}Result>{inner}'
                f"</{operation}Result><ResponseMetadata><RequestId>{self.request_id}</RequestId></ResponseMetadata></{operation}Response>")
        self.answer(200, {"Content-Type": "text/xml"}, text.encode())
        return 200

    def assume_role(self, fields):
        """Whoever has the permission may, unless the role wants more. Tags want sts:TagSession besides."""
        self.resource, name = fields.get("RoleArn", ""), fields.get("RoleArn", "").rpartition("/")[2]
        tags = {fields[f"Tags.member.{n}.Key"]: fields[f"Tags.member.{n}.Value"] for n in range(1, 51) if f"Tags.member.{n}.Key" in fields}
        context = {f"aws:RequestTag/{key}": value for key, value in tags.items()} | {"aws:TagKeys": list(tags)}
        workloads.check_tags(tags)
        self.cloud.require(self.identity, "sts:AssumeRole", self.resource, context)
        if tags:
            self.cloud.require(self.identity, "sts:TagSession", self.resource, context)
        trust = self.cloud.workloads.find("trust").get(name, {})
        if name not in self.cloud.sessions.roles or fields.get("ExternalId") != trust.get("external_id", fields.get("ExternalId")):
            raise refuse("denied", "sts", f"User: {self.identity.arn} is not authorized to perform: sts:AssumeRole on resource: {self.resource}")
        return self.session_of(fields, name, tags)

    def assume_with_token(self, fields):
        self.resource, name = fields.get("RoleArn", ""), fields.get("RoleArn", "").rpartition("/")[2]
        subject = self.cloud.workloads.of_token(name, fields.get("WebIdentityToken", ""))
        made = self.session_of(fields, name, {})
        return f"<SubjectFromWebIdentityToken>{subject}</SubjectFromWebIdentityToken>{made}"

    def session_of(self, fields, name, tags):
        session, seconds = fields.get("RoleSessionName", ""), fields.get("DurationSeconds", "3600")
        if self.resource != f"arn:aws:iam::{ACCOUNT}:role/{name}":
            raise refuse("denied", "sts", f"there is no role {self.resource}")
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", session):
            raise AwsError("ValidationError", "RoleSessionName")
        if not seconds.isdigit() or not sessions.SHORTEST_S <= int(seconds) <= sessions.LONGEST_S:
            raise AwsError("ValidationError", "DurationSeconds")
        if self.identity and self.identity.session and int(seconds) > 3600:
            raise AwsError("ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
        made = self.cloud.sessions.make(name, session, tags, int(seconds), self.now())
        self.identity = self.identity or made
        return (f"<AssumedRoleUser><Arn>{made.arn}</Arn><AssumedRoleId>{made.key_id}:{session}</AssumedRoleId></AssumedRoleUser><Credentials>"
                f"<AccessKeyId>{made.key_id}</AccessKeyId><SecretAccessKey>{made.secret}</SecretAccessKey>"
                f"<SessionToken>{made.token}</SessionToken><Expiration>{made.expires:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>")

    def serve_bedrock(self, request, body):
        self.text = {"text_sha256": hashlib.sha256(body).hexdigest(), "marks": sorted({m.decode() for m in MARK.findall(body)})}
        parts = request.raw_path.split("/")
        if request.method == "GET" and request.raw_path == "/logging/modelinvocations":
            operation = action = "GetModelInvocationLoggingConfiguration"
            self.resource = "*"
        elif request.method == "GET" and len(parts) == 3 and parts[1] == "inference-profiles":
            operation = action = "GetInferenceProfile"
            self.resource = self.model_arn(unquote(parts[2]), "inference-profile")
        elif request.method == "POST" and len(parts) == 4 and parts[1] == "model" and parts[3] in MODEL_ACTIONS:
            action = MODEL_ACTIONS[parts[3]]
            operation = {"converse": "Converse", "converse-stream": "ConverseStream"}.get(parts[3], action)
            model = unquote(parts[2])
            self.resource = self.model_arn(model, "inference-profile" if model.split(".")[0] in PROFILE_GEOGRAPHIES else "foundation-model")
        else:
            raise AwsError("UnknownOperationException", "no such operation", 404)
        self.action = f"bedrock:{action}"
        self.cloud.require(self.identity, self.action, self.resource)
        guardrail = self.guardrail_arn(body) if operation.startswith("Converse") else None
        if guardrail:
            self.cloud.require(self.identity, "bedrock:ApplyGuardrail", guardrail)
        if self.strike("bedrock", operation):
            return 200
        upstream, over = http.client.HTTPConnection("127.0.0.1", self.cloud.bedrock_port, timeout=120), threading.Event()
        forward = {name: value for name, value in request.headers.items() if name in ("content-type", "accept")
                   or name.startswith(("x-amzn-bedrock-", "x-cordon-"))}
        try:
            upstream.request(request.method, request.raw_path, body or None, forward)
            reply = upstream.getresponse()
            headers = {name: value for name, value in reply.getheaders() if name.lower() not in HOP_HEADERS}
            length = reply.getheader("content-length")
            chunks = iter(lambda: reply.read1(1 << 16), b"")
            if length is None:
                threading.Thread(target=self.leave_with_client, args=(upstream.sock, over), daemon=True).start()
            self.took_effect = reply.status < 300
            self.answer(reply.status, headers, chunks=chunks, length=length and int(length))
            return reply.status
        except (ConnectionRefusedError, http.client.HTTPException, TimeoutError) as error:
            if self.sent:  # too late for another status: cut, as a broken connection would
                self.close_connection = True
                return 502
            raise AwsError("ServiceUnavailableException", f"the model server does not answer: {error}", 503) from None
        finally:
            over.set()
            upstream.close()

    def model_arn(self, model, kind):
        account = "" if kind == "foundation-model" else ACCOUNT
        return model if model.startswith("arn:") else f"arn:aws:bedrock:{self.cloud.region}:{account}:{kind}/{model}"

    def guardrail_arn(self, body):
        """Of the guardrail that a Converse request names; None."""
        try:
            named = json.loads(body)["guardrailConfig"]["guardrailIdentifier"]
        except (ValueError, KeyError, TypeError):
            return None
        return named if str(named).startswith("arn:") else f"arn:aws:bedrock:{self.cloud.region}:{ACCOUNT}:guardrail/{named}"

    def leave_with_client(self, upstream, over):
        """A stream that nobody hears any more is ended where it comes from, even while it is silent."""
        while not over.wait(0.1):
            with contextlib.suppress(OSError, ValueError):
                if self.is_gone():
                    return upstream.shutdown(socket.SHUT_RDWR)

    def refuse_with(self, error, service):
        if self.sent:
            self.close_connection = True
            return
        content_type, body, headers = document(error, service, self.request_id)
        self.answer(error.status, {"Content-Type": content_type, **headers}, body)

    def answer(self, status, headers, body=b"", chunks=None, length=None):
        """length None with chunks: sent chunked, as event streams are."""
        if self.unread:  # an answer before the whole body: this connection cannot be used again
            self.close_connection = True
        spoils = self.took_effect and self.fault is not None and self.fault.kind in faults.AFTER
        if spoils and self.fault.kind == "lost":
            self.reset()
        if spoils and self.fault.kind == "wrong_etag":
            headers = {**headers, "ETag": '"00000000000000000000000000000000"'}
        self.sent = True
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("x-amzn-RequestId", self.request_id)
        self.send_header("x-amz-request-id", self.request_id)
        chunked = chunks is not None and length is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif status not in (204, 304):
            self.send_header("Content-Length", str(len(body) if length is None else length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            chunks = chunks if chunks is not None else [body]
            for chunk in self.spoilt(chunks) if spoils else chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunked else chunk)
                if chunked:
                    self.wfile.flush()
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def spoilt(self, chunks):
        """The answer's body as the fault wants it."""
        fault, left = self.fault, self.fault.bytes
        for chunk in chunks:
            if fault.kind in ("cut", "stall") and len(chunk) >= left:
                yield from [chunk[:left]] if left else []
                self.wfile.flush()
                if fault.kind == "stall":
                    fault.wait(self.is_gone)
                raise ConnectionResetError
            if fault.kind == "corrupt" and 0 <= left < len(chunk):
                chunk = chunk[:left] + bytes([chunk[left] ^ 1]) + chunk[left + 1:]
            left -= len(chunk)
            if fault.kind != "slow":
                yield chunk
                continue
            step = max(1, fault.rate // 20)
            for at in range(0, len(chunk), step):
                yield chunk[at:at + step]
                self.wfile.flush()
                if fault.over.wait(step / fault.rate):
                    step = fault.rate = 1 << 30

    def log_message(self, form, *args):
        """Requests are in calls.jsonl; only what http.server itself refuses is worth a line here."""

    def log_error(self, form, *args):
        print(json.dumps({"event": "http_error", "why": form % args}), flush=True)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            traceback.print_exc()


def main():
    if os.environ.get("ENVIRONMENT") != "development":
        sys.exit("the AWS stand-in runs with ENVIRONMENT=development only")
    Handler.cloud = Cloud(os.environ)
    server = Server(("127.0.0.1", int(os.environ["CLOUD_PORT"])), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(json.dumps({"event": "ready", "port": server.server_port, "identities": sorted(
        identity.name for identity in Handler.cloud.identities.values())}), flush=True)
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
