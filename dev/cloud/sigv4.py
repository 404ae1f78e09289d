"""Signature Version 4, seen from the server: who signed this request, and is it unchanged?

Header and query (presigned) forms. What must match: the scope (day, region, service), the signed headers
(`host` and every `x-amz-*` header must be among them), the query string, the path in the service's own
encoding, and the hash of the body, which the caller compares once it has read the body.
"""
import datetime
import hashlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from errors import AwsError, refuse

SKEW_S = 15 * 60
LONGEST_PRESIGN_S = 7 * 24 * 3600
UNSIGNED = "UNSIGNED-PAYLOAD"
HEADER_FORM = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{64})")


@dataclass
class Request:
    method: str
    raw_path: str       # still percent-encoded, as sent
    raw_query: str
    headers: dict       # lower-case name -> value; repeated ones joined by ","


@dataclass
class Signed:
    identity: object
    service: str
    region: str
    payload_sha256: str  # 64 hex digits, or UNSIGNED-PAYLOAD


def service_of(request):
    """The service that the request says it was signed for; only a hint until verify() has passed."""
    credential = HEADER_FORM.match(request.headers.get("authorization", ""))
    scope = credential.group(1) if credential else dict(parse_qsl(request.raw_query)).get("X-Amz-Credential", "")
    parts = scope.split("/")
    if len(parts) == 5:
        return parts[3]
    target = request.headers.get("x-amz-target", "")
    if target.startswith("TrentService."):
        return "kms"
    if target.startswith("secretsmanager."):
        return "secretsmanager"
    if target.startswith("Logs_"):
        return "logs"
    if request.raw_path == "/" and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return "sts"
    return "bedrock" if request.raw_path.startswith(("/model/", "/inference-profiles/", "/logging/")) else "s3"


def canonical_path(raw_path, service):
    """S3 encodes a path once, every other service encodes what is already encoded again."""
    segments = raw_path.split("/")
    if service == "s3":
        segments = [unquote(segment) for segment in segments]
    return "/".join(quote(segment, safe="-_.~") for segment in segments) or "/"


def canonical_query(raw_query):
    pairs = [(quote(name, safe="-_.~"), quote(value, safe="-_.~"))
             for name, value in parse_qsl(raw_query, keep_blank_values=True) if name != "X-Amz-Signature"]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical_request(request, service, signed_headers, payload_sha256):
    lines = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signed_headers)
    return "\n".join([request.method, canonical_path(request.raw_path, service), canonical_query(request.raw_query),
                      lines, ";".join(signed_headers), payload_sha256])


def signature(secret, date, scope, canonical):
    def mac(key, text):
        return hmac.new(key, text.encode(), hashlib.sha256).digest()
    day, region, service, term = scope.split("/")
    key = mac(mac(mac(mac(b"AWS4" + secret.encode(), day), region), service), term)
    to_sign = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def verify(request, identities, region, small_body=None, now=None):
    """-> Signed, or raises the refusal that the service would send.

    small_body: the whole body, for services that do not send x-amz-content-sha256; S3 always sends it.
    identities: (access key id, session token or None) -> identity with .secret, or None
    """
    now = now or datetime.datetime.now(datetime.timezone.utc)
    service = service_of(request)
    query = dict(parse_qsl(request.raw_query, keep_blank_values=True))
    presigned = "X-Amz-Signature" in query
    if presigned:
        if query.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256":
            raise refuse("malformed", service, "X-Amz-Algorithm only supports AWS4-HMAC-SHA256")
        credential, signed_names = query.get("X-Amz-Credential", ""), query.get("X-Amz-SignedHeaders", "")
        given, date = query["X-Amz-Signature"], query.get("X-Amz-Date", "")
    else:
        match = HEADER_FORM.fullmatch(request.headers.get("authorization", ""))
        if not match:
            kind = "malformed" if "authorization" in request.headers else "no-signature"
            raise refuse(kind, service, "Missing Authentication Token")
        credential, signed_names, given = match.groups()
        date = request.headers.get("x-amz-date", "")

    parts = credential.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise refuse("malformed", service, "The credential scope is not KEY/DATE/REGION/SERVICE/aws4_request")
    key_id, day, scope_region, scope_service, _ = parts
    check_date(date, day, query, presigned, service, now)
    if scope_region != region:
        raise refuse("malformed", service, f"Credential should be scoped to a valid region, not '{scope_region}'.")
    token = query.get("X-Amz-Security-Token") if presigned else request.headers.get("x-amz-security-token")
    identity = identities(key_id, token)
    if identity is None:
        raise refuse("unknown-key", service, "The security token included in the request is invalid.")

    if identity.token is not None and identity.expires <= now:
        raise refuse("expired-token", service, "The provided token has expired.")

    names = signed_names.split(";")
    must_sign = {"host"} | (set() if presigned else {name for name in request.headers if name.startswith("x-amz-")})
    if names != sorted(names) or not must_sign <= set(names):
        raise refuse("bad-signature", service, "'Host' and every 'X-Amz-*' header must be signed, in order.")
    payload = request.headers.get("x-amz-content-sha256")
    if payload is None:
        if service == "s3" and not presigned:
            raise AwsError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256", 400)
        payload = UNSIGNED if presigned and service == "s3" else hashlib.sha256(small_body or b"").hexdigest()
    if payload != UNSIGNED and not re.fullmatch("[0-9a-f]{64}", payload):
        raise AwsError("NotImplemented", f"x-amz-content-sha256 '{payload[:40]}' is not supported by the stand-in", 501)

    scope = f"{day}/{scope_region}/{scope_service}/aws4_request"
    want = signature(identity.secret, date, scope, canonical_request(request, service, names, payload))
    if not hmac.compare_digest(want, given):
        raise refuse("bad-signature", service, "The request signature we calculated does not match the signature "
                     "you provided. Check your key and signing method.")
    if small_body is not None:
        check_body(service, payload, hashlib.sha256(small_body).hexdigest())
    return Signed(identity, scope_service, scope_region, payload)


def check_date(date, day, query, presigned, service, now):
    try:
        signed_at = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise refuse("malformed", service, "The date is not in the form YYYYMMDDTHHMMSSZ") from None
    if day != date[:8]:
        raise refuse("bad-signature", service, "Date in the credential scope does not match the request's date.")
    age_s = (now - signed_at).total_seconds()
    if not presigned:
        if abs(age_s) > SKEW_S:
            raise refuse("skewed", service, "The difference between the request time and the current time is too large: "
                         f"{date} against {now:%Y%m%dT%H%M%SZ}.")
        return
    expires = query.get("X-Amz-Expires", "")
    if not expires.isdigit() or not 0 < int(expires) <= LONGEST_PRESIGN_S:
        raise refuse("malformed", service, "X-Amz-Expires must be between 1 and 604800 seconds")
    if age_s > int(expires) or age_s < -SKEW_S:
        raise refuse("expired", service, "Request has expired")


def check_body(service, promised, actual):
    if promised != UNSIGNED and promised != actual:
        raise refuse("wrong-body", service, "The provided 'x-amz-content-sha256' header does not match what was computed.")
