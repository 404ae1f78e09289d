"""Tokens that nobody issued are refused with one answer, and every refusal is on record without a byte of the token."""
import base64
import hashlib
import hmac
import json
import time

import pytest
import requests

from conftest import wait_for

NIL = "00000000-0000-0000-0000-000000000000"
PATH = "/api/v1/documents"


def decode(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def encode(data):
    if isinstance(data, dict):
        data = json.dumps(data, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def issuer_keys(stack, token):
    issuer = json.loads(decode(token.split(".")[1]))["iss"]
    discovery = requests.get(issuer + "/.well-known/openid-configuration", timeout=10).json()
    return requests.get(discovery["jwks_uri"], timeout=10).json()["keys"]


def with_header(token, **members):
    header, payload, signature = token.split(".")
    return f"{encode({**json.loads(decode(header)), **members})}.{payload}.{signature}"


def with_claims(token, **claims):
    header, payload, signature = token.split(".")
    return f"{header}.{encode({**json.loads(decode(payload)), **claims})}.{signature}"


def signed_with_public_key(token, key):
    """HS256 with the bytes of the issuer's public key: what a verifier that trusts the header accepts."""
    payload = token.split(".")[1]
    made = f"{encode({'alg': 'HS256', 'typ': 'JWT', 'kid': key['kid']})}.{payload}"
    return f"{made}.{encode(hmac.new(json.dumps(key).encode(), made.encode(), hashlib.sha256).digest())}"


def forgeries(stack, token):
    header, payload, signature = token.split(".")
    key = issuer_keys(stack, token)[0]
    return {
        "no algorithm": f"{encode({'alg': 'none', 'typ': 'JWT'})}.{payload}.{signature}",
        "no algorithm, no signature": f"{encode({'alg': 'none'})}.{payload}.",
        "HMAC with the public key": signed_with_public_key(token, key),
        "a key that travels along": with_header(token, jwk=key),
        "a key from elsewhere": with_header(token, jku="http://127.0.0.1:1/keys"),
        "a certificate from elsewhere": with_header(token, x5u="http://127.0.0.1:1/certificate"),
        "a certificate that travels along": with_header(token, x5c=["MIIB"]),
        "another family of algorithms": with_header(token, alg="ES256"),
        "another curve": with_header(token, alg="ES384"),
        "a member twice": f"{encode(decode(header)[:-1] + b',' + decode(header)[1:])}.{payload}.{signature}",
        "a longer signature": f"{header}.{payload}.{encode(decode(signature) + bytes(1))}",
        "bits behind the last byte": f"{header}.{payload}.{signature[:-1]}{chr(ord(signature[-1]) + 1)}",
        "another issuer": with_claims(token, iss="http://127.0.0.1:1"),
        "issued tomorrow": with_claims(token, iat=int(time.time()) + 86000),
        "a critical extension": with_header(token, crit=["exp"]),
        "an unknown key": with_header(token, kid="../../../dev/null"),
        "another tenant": with_claims(token, tenant="lakeside"),
        "another role": with_claims(token, roles=["platform_admin"]),
        "a longer life": with_claims(token, exp=int(time.time()) + 86000),
        "a cut signature": f"{header}.{payload}.{signature[:-4]}",
        "a padded token": token + "==",
        "a second signature": f"{token}.{signature}",
        "a header twice": f"{header}.{header}.{signature}",
        "nothing": "..",
        "no token at all": "x",
    }


@pytest.fixture(scope="module")
def token(stack):
    return stack.token("demo", "clinician")


def refusals(stack, since):
    with stack.database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT convert_from(event, 'UTF8') FROM audit.audit_logs WHERE tenant_id = %s AND action = 'auth.denied' "
                       "AND event_id > %s ORDER BY seq", (NIL, since))
        return [row[0] for row in cursor.fetchall()]


def newest_event(stack):
    with stack.database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(event_id::text), %s) FROM audit.audit_logs", (NIL,))
        return cursor.fetchone()[0]


def test_forged_tokens_are_refused_alike_and_recorded(stack, token):
    assert stack.call("GET", PATH, token=token).status_code == 200
    made, since = forgeries(stack, token), newest_event(stack)
    for name, forged in made.items():
        answer = stack.call("GET", PATH, token=forged)
        assert (answer.status_code, answer.json()["code"]) == (401, "AUTH_003"), name
        assert "WWW-Authenticate" in answer.headers, name
    events = wait_for("refusals on record", lambda: (lambda found: found if len(found) >= len(made) else None)(refusals(stack, since)), 10)
    assert len(events) == len(made)
    pieces = {piece for forged in made.values() for piece in forged.split(".") if len(piece) > 12}
    for event in events:
        assert not any(piece in event for piece in pieces), event
        assert json.loads(event)["detail"]["code"] == "AUTH_003"


def test_a_session_that_is_revoked_ends_within_a_second(stack):
    mine = stack.cordon("token", "--tenant", "demo", "--role", "reviewer", "--user", "leaver").splitlines()[-1]
    assert stack.call("GET", PATH, token=mine).status_code == 200
    with stack.database() as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE auth.sessions s SET revoked_at = now(), revoked_reason = 'test' FROM auth.users u "
                       "WHERE u.tenant_id = s.tenant_id AND u.id = s.user_id AND u.subject = 'leaver'")
        assert cursor.rowcount == 1
    time.sleep(1.1)         # the edge may use a ticket for one second
    answer = stack.call("GET", PATH, token=mine)
    assert (answer.status_code, answer.json()["code"]) == (403, "AUTH_005")
