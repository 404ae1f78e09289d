"""Our signatures beside those of the JavaScript SDK's signer, over many requests of every form; and presigned URLs of ours, used by curl."""
import datetime
import json
import random
import subprocess
import urllib.parse

import pytest

from test_eventstream import APP, TOOLS

# Theirs: SignatureV4 of @smithy/signature-v4, with Node's own SHA-256.
SMITHY = """
import { SignatureV4 } from '@smithy/signature-v4';
import { createHash, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
class Sha256 {
  constructor(secret) { this.hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret); }
  update(data) { this.hash.update(data); }
  async digest() { return this.hash.digest(); }
}
const out = [];
for (const r of JSON.parse(readFileSync(0))) {
  const signer = new SignatureV4({ service: r.service, region: r.region, sha256: Sha256, uriEscapePath: r.service !== 's3',
    credentials: { accessKeyId: r.id, secretAccessKey: r.secret, ...(r.token ? { sessionToken: r.token } : {}) } });
  const query = {};
  for (const [name, value] of r.query) query[name] = name in query ? [query[name], value].flat() : value;
  const request = { method: r.method, protocol: 'https:', hostname: r.headers.host, path: r.path, query,
    headers: { ...r.headers, ...(r.payload === 'unsigned' ? { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' } : {}) },
    ...(r.body ? { body: r.body } : {}) };
  const options = { signingDate: new Date(r.date), expiresIn: r.expires };
  const signed = r.form === 'query' ? await signer.presign(request, options) : await signer.sign(request, options);
  out.push(r.form === 'query' ? signed.query['X-Amz-Signature'] : signed.headers.authorization);
}
process.stdout.write(JSON.stringify(out));
"""


@pytest.fixture(scope="module")
def signer():
    return TOOLS / "sigv4_print"


def text(chance, alphabet, most):
    return "".join(chance.choice(alphabet) for _ in range(chance.randrange(1, most)))


WORDS = "abcXYZ019-._~ !$&'()*+,;=:@/?%#[]\u00e9\u4e2d\U0001f48a"


def make(n):
    """A request as both take it. Its path is as it is sent, encoded once."""
    chance = random.Random(n)
    form, service = chance.choice(["header", "query"]), chance.choice(["s3", "s3", "kms", "sts", "bedrock"])
    segments = [urllib.parse.quote(text(chance, WORDS, 12), safe="") for _ in range(chance.randrange(4))]
    if service != "s3" and chance.random() < 0.4:
        segments.insert(0, chance.choice([".", "..", "", "a"]))
    query = [(text(chance, WORDS, 8), text(chance, WORDS + "  ", 20) if chance.random() < 0.9 else "") for _ in range(chance.randrange(5))]
    query = [(name, value) for name, value in query if not name.lower().startswith("x-amz")]
    if query and chance.random() < 0.2:
        query.append((query[0][0], "again"))
    headers = {"host": chance.choice(["bucket.s3.us-east-1.amazonaws.com", "127.0.0.1:4566", "kms.eu-west-3.amazonaws.com"])}
    if form == "header":
        headers |= {f"x-amz-meta-{text(chance, 'abcdef', 6)}": text(chance, "ab  c,;=\"", 30).strip() or "x" for _ in range(chance.randrange(3))}
        headers |= {"content-type": "application/x-amz-json-1.1"} if chance.random() < 0.5 else {}
    return {"form": form, "service": service, "region": chance.choice(["us-east-1", "eu-west-3", "us-gov-west-1"]), "id": f"AKIA{n:016d}",
            "secret": text(chance, "abcdefXYZ019/+=", 60), "token": text(chance, "abcXYZ019/+=", 300) if chance.random() < 0.5 else "",
            "method": chance.choice(["GET", "PUT", "POST", "HEAD", "DELETE"]), "path": "/" + "/".join(segments), "query": query, "headers": headers,
            "body": text(chance, "some body\n", 200) if form == "header" and chance.random() < 0.5 else "",
            "payload": "unsigned" if service == "s3" and chance.random() < 0.5 else "sha256",
            "date": "2026-01-02T03:04:05Z", "expires": chance.randrange(1, 604801)}


def ours(signer, folder, r, step):
    context = {"credentials": {"access_key_id": r["id"], "secret_access_key": r["secret"], **({"token": r["token"]} if r["token"] else {})},
               "region": r["region"], "service": r["service"], "timestamp": r["date"], "path_as_sent": r["service"] == "s3",
               "sign_body": r["form"] == "header", "payload": r["payload"], "expiration_in_seconds": r["expires"]}
    query = list(r["query"]) + ([("x-amz-content-sha256", "UNSIGNED-PAYLOAD")] if r["form"] == "query" and r["payload"] == "unsigned" and r.get("hoists", True) else [])
    line = r["path"] + ("?" + "&".join(f"{urllib.parse.quote(n, safe='')}={urllib.parse.quote(v, safe='')}" for n, v in query) if query else "")
    (folder / "context").write_text(json.dumps(context))
    (folder / "request").write_bytes((f"{r['method']} {line} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in r["headers"].items()) + "\r\n" + r["body"]).encode())
    return subprocess.run([signer, folder / "context", folder / "request", r["form"], step], check=True, capture_output=True, text=True, timeout=20).stdout


def test_signatures_are_those_of_the_javascript_sdk(signer, tmp_path):
    if not (APP / "node_modules/@smithy/signature-v4").exists():
        pytest.skip("its npm package is not installed: ./cordon setup")
    requests = [make(n) for n in range(400)]
    theirs = json.loads(subprocess.run([APP / "node", "--input-type=module", "-e", SMITHY], input=json.dumps(requests).encode(), cwd=APP,
                                       stdout=subprocess.PIPE, check=True, timeout=60).stdout)
    for r, want in zip(requests, theirs):
        got = ours(signer, tmp_path, r, "signature" if r["form"] == "query" else "authorization")
        assert got == want, (r, ours(signer, tmp_path, r, "canonical-request"))
    forms = {(r["form"], r["service"] == "s3", bool(r["token"]), r["payload"]) for r in requests}
    assert len(forms) == 12, "every form was among them"


def presigned(cloud, signer, folder, method, key, expires=60, date=None, token="", secret=None, who="tester"):
    made = (secret or cloud.secrets[who])
    r = {"form": "query", "service": "s3", "region": "us-east-1", "id": made[0], "secret": made[1], "token": token, "method": method,
         "path": f"/cordon-documents/{urllib.parse.quote(key)}", "query": [], "headers": {"host": f"127.0.0.1:{cloud.port}"}, "body": "", "payload": "unsigned",
         "date": date or datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "expires": expires, "hoists": False}
    return f"{cloud.url}{r['path']}?{ours(signer, folder, r, 'authorization')}"


def curl(*words):
    """(status, body)"""
    done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", *words], check=True, capture_output=True, timeout=60)
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def test_presigned_urls_are_good_for_curl_and_for_nothing_else(cloud, signer, tmp_path):
    key, body = "tenants/x/a key + with %41 \u00e9.bin", b"presigned" * 1000
    (tmp_path / "body").write_bytes(body)
    assert curl("-T", str(tmp_path / "body"), presigned(cloud, signer, tmp_path, "PUT", key))[0] == 200
    get = presigned(cloud, signer, tmp_path, "GET", key)
    assert curl(get) == (200, body)
    assert curl("-r", "9-17", get) == (206, b"presigned")
    session = cloud.client("sts", "query").assume_role(RoleArn="arn:aws:iam::123456789012:role/query-tenant", RoleSessionName="curl",
                                                       Tags=[{"Key": "tenant_id", "Value": "x"}])["Credentials"]
    by_session = presigned(cloud, signer, tmp_path, "GET", key, token=session["SessionToken"], secret=(session["AccessKeyId"], session["SecretAccessKey"]))
    assert curl(by_session) == (200, body)
    assert curl("-X", "DELETE", get)[0] == 403, "signed for GET"
    assert curl(get.replace("a%20key", "b%20key"))[0] == 403
    assert curl(get.replace("X-Amz-Expires=60", "X-Amz-Expires=600"))[0] == 403
    assert curl(presigned(cloud, signer, tmp_path, "GET", key, date="2026-01-01T00:00:00Z", expires=1))[0] == 403
    assert curl(presigned(cloud, signer, tmp_path, "GET", key, secret=(cloud.secrets["tester"][0], "wrong")))[0] == 403
    assert curl(presigned(cloud, signer, tmp_path, "GET", key, who="auth"))[0] == 403, "what its policy does not allow"
