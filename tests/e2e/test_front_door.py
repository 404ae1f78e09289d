"""Who is let in how often, who is believed about addresses, and what every answer carries."""
import json
import re
import socket
import ssl
import time

import pytest
import requests

from conftest import wait_for
from front import another_auth, another_edge, exchange, statuses, tls_in_front
from test_health import value_of

ORIGIN = "https://app.example"
SECURE = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
          "Cross-Origin-Opener-Policy": "same-origin"}


def ask(edge, path="/api/v1/documents", token=None, method="GET", **headers):
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return requests.request(method, edge.url + path, headers=headers, timeout=20)


def fields(header):
    """{policy: {parameter: number}} of RateLimit or RateLimit-Policy."""
    return {name: {k: int(v) for k, v in re.findall(r";(\w+)=(\d+)", rest)} for name, rest in re.findall(r'"([a-z-]+)"((?:;\w+=\d+)*)', header)}


def events(stack, action, **detail):
    """Details of that action's events on the log without a tenant."""
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT convert_from(event, 'UTF8')::json -> 'detail' FROM audit.audit_logs WHERE action = %s", (action,))
        return [row[0] for row in cursor if all((row[0] or {}).get(k) == v for k, v in detail.items())]


# ---- limits ----

def until_refused(edge, *path, **how):
    """How many answers came before the 429, and the 429. Buckets fill while a slow machine asks."""
    for served in range(400):
        answer = ask(edge, *path, **how)
        if answer.status_code == 429:
            return served, answer
    raise AssertionError("never refused")


def test_an_address_a_user_and_a_tenant_have_limits_and_are_told(stack):
    with another_edge(stack, CORDON_RATE_ADDRESS="100", CORDON_RATE_USER="read=6", CORDON_RATE_TENANT="read=9", CORDON_TRUSTED_PROXIES="127.0.0.0/8") as edge:
        ann, bob, other = stack.token(user="ann"), stack.token(user="bob"), stack.token("lakeside", user="carl")
        first = ask(edge, token=ann)
        assert first.status_code == 200
        assert fields(first.headers["RateLimit-Policy"]) == {"address": {"q": 100, "w": 60}, "user-read": {"q": 6, "w": 60}, "tenant-read": {"q": 9, "w": 60}}
        left = fields(first.headers["RateLimit"])
        assert left["address"]["r"] == 99 and left["user-read"] == {"r": 5, "t": 10} and left["tenant-read"]["r"] == 8
        served, refused = until_refused(edge, token=ann)
        assert served >= 5 and refused.json()["code"] == "RATE_001" and 1 <= int(refused.headers["Retry-After"]) <= 10
        assert fields(refused.headers["RateLimit"])["user-read"]["r"] == 0
        served, refused = until_refused(edge, token=bob)
        assert served >= 1 and fields(refused.headers["RateLimit"])["tenant-read"]["r"] == 0, "the tenant's is used up, bob's own is not"
        assert ask(edge, token=other).status_code == 200, "another tenant is not touched"
        assert ask(edge, "/api/v1/search", token=ann, method="POST").status_code != 429, "another class is not touched"
        began = time.monotonic()
        served, _ = until_refused(edge, "/nowhere", **{"X-Forwarded-For": "192.0.2.9"})
        assert 100 <= served <= 101 + (time.monotonic() - began) * 100 / 60
        assert ask(edge, "/nowhere", **{"X-Forwarded-For": "192.0.2.10"}).status_code == 404
        assert ask(edge, "/api/v1/health/live", **{"X-Forwarded-For": "192.0.2.9"}).status_code == 200, "who balances load is never refused"
        for by in ("address", "user", "tenant"):
            assert value_of(edge.metrics(), "cordon_http_limited_total", by=by) >= 1


def test_replicas_grant_their_share(stack):
    with another_edge(stack, CORDON_RATE_ADDRESS="100", CORDON_EDGE_REPLICAS="4") as edge:
        assert fields(ask(edge, "/nowhere").headers["RateLimit-Policy"])["address"]["q"] == 25


# ---- whose address ----

def logged_address(stack, edge, **headers):
    """What the record says about a refusal that was sent with these headers."""
    answer = ask(edge, **headers)
    assert answer.status_code == 401
    with stack.database() as db, db.cursor() as cursor:
        def on_record():
            cursor.execute("SELECT convert_from(event, 'UTF8')::json -> 'detail' ->> 'remote_address' FROM audit.audit_logs "
                           "WHERE action = 'auth.denied' AND request_id = %s", (answer.headers["X-Request-ID"],))
            return cursor.fetchone()
        return wait_for("the refusal on record", on_record, 10)[0]


def test_only_listed_proxies_are_believed_and_the_right_most_stranger_is_the_client(stack):
    with another_edge(stack) as edge:
        assert logged_address(stack, edge, **{"X-Forwarded-For": "203.0.113.5", "X-Real-IP": "203.0.113.5", "Forwarded": "for=203.0.113.5"}) == "127.0.0.1"
    with another_edge(stack, CORDON_TRUSTED_PROXIES="127.0.0.1/32,10.0.0.0/8") as edge:
        assert logged_address(stack, edge, **{"X-Forwarded-For": "6.6.6.6, 203.0.113.5, 10.1.2.3"}) == "203.0.113.5"
        assert logged_address(stack, edge, **{"X-Forwarded-For": "203.0.113.5, nonsense"}) == "127.0.0.1"
        assert logged_address(stack, edge, **{"X-Real-IP": "203.0.113.5", "Forwarded": "for=203.0.113.5"}) == "127.0.0.1", "one header only is read"
    with another_edge(stack, CORDON_TRUSTED_PROXIES="127.0.0.1", CORDON_CLIENT_ADDRESS_HEADER="forwarded") as edge:
        assert logged_address(stack, edge, Forwarded='for=6.6.6.6, for="[2001:db8::7]:4711";proto=https') == "2001:db8::7"


# ---- failed logins ----

def test_guesses_lock_an_address_out_but_nobody_who_is_in(stack):
    with another_edge(stack, CORDON_LOGIN_FAILURES="5", CORDON_LOCKOUT_MAX_S="64", CORDON_TRUSTED_PROXIES="127.0.0.1") as edge:
        good, here, there, answers = stack.token(user="ann"), {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "198.51.100.8"}, []

        def guess():
            answer = ask(edge, token=f"guess.{len(answers)}.x", **here)
            answers.append(answer.status_code)
            return answer

        def locks():
            """How often guesses have locked the address out: five are free, and those during a lock-out do not count."""
            return answers.count(401) - 5

        def watched():
            """A lock-out from the guess that began it, when all was asked before it could end; a slow machine sees the next one, which is longer."""
            newcomer, began = stack.token(user=f"nora-{locks()}"), time.monotonic()
            if guess().status_code == 429:
                return None         # the one before is not over
            lasts_s = 2 ** (locks() - 1)
            seen = guess(), ask(edge, token=good, **here), ask(edge, token=newcomer, **here), ask(edge, token=newcomer, **there)
            took_s = time.monotonic() - began
            return (lasts_s, took_s, *seen) if took_s < lasts_s - 0.1 else None
        assert ask(edge, token=good, **here).status_code == 200
        assert [guess().status_code for _ in range(5)] == [401] * 5
        for _ in range(2):
            lasts_s, took_s, refused, known, unknown, elsewhere = wait_for("a lock-out", watched, 150, 0.2)
            assert (refused.status_code, refused.json()["code"]) == (429, "RATE_002")
            assert lasts_s - took_s <= int(refused.headers["Retry-After"]) <= lasts_s, "twice as long as the one before"
            assert known.status_code == 200, "who is in stays in"
            assert unknown.status_code == 429
            assert elsewhere.status_code == 200, "the same credential from elsewhere is not locked out"
        assert ask(edge, token="guess.0.x", **there).status_code == 401
        assert value_of(edge.metrics(), "cordon_http_locked_out_total") >= 2
    on_record = wait_for("lock-outs on record", lambda: len(found := events(stack, "auth.lockout", remote_address="198.51.100.7")) >= locks() and found, 10)
    assert [e["locked"] for e in on_record] == ["address"] * locks() and sorted(int(e["locked_s"]) for e in on_record) == [2 ** n for n in range(locks())]


def test_what_an_issuer_signed_is_no_guess_and_locks_nobody_else_out(stack):
    with another_edge(stack, CORDON_LOGIN_FAILURES="3", CORDON_TRUSTED_PROXIES="127.0.0.1") as edge:
        stranger = stack.token("nowhere")
        office = {"X-Forwarded-For": "198.51.100.20"}
        assert [ask(edge, token=stranger, **office).status_code for _ in range(5)] == [403] * 4 + [429]
        assert ask(edge, token=stack.token(user="nora"), **office).status_code == 200


def test_a_flood_of_refusals_is_a_few_events_with_a_number(stack):
    flooder = "198.51.100.33"
    with another_auth(stack, CORDON_DENIALS_PER_MINUTE="3") as (endpoint, auth), \
            another_edge(stack, CORDON_AUTH_ENDPOINTS=endpoint, CORDON_TRUSTED_PROXIES="127.0.0.1") as edge:
        for n in range(50):
            assert ask(edge, token=f"guess.{n}.x", **{"X-Forwarded-For": flooder}).status_code == 401
        wait_for("three of them on record", lambda: len(events(stack, "auth.denied", remote_address=flooder)) == 3, 10)
        auth.terminate()            # what it has counted is on the record before it ends
        auth.wait(60)
        told = events(stack, "auth.denied", remote_address=flooder)
        assert len(told) == 4 and [e["repeated"] for e in told if "repeated" in e] == [47]


# ---- what every answer carries ----

def assert_secure(answer, cache="no-store"):
    for name, value in SECURE.items():
        assert answer.headers.get(name) == value, (answer.url, answer.status_code, name)
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"] and "camera=()" in answer.headers["Permissions-Policy"]
    assert answer.headers["Cache-Control"] == cache and "Origin" in answer.headers["Vary"] and answer.headers["X-Request-ID"]


def test_every_answer_carries_the_security_headers(stack):
    document = stack.ingest(b"Headers: the blood pressure was 120 over 80.")
    for path in ("/api/v1/documents", f"/api/v1/documents/{document['id']}", f"/api/v1/documents/{document['id']}/content", "/api/v1/jobs", "/nowhere", "/api/v1/users"):
        assert_secure(stack.call("GET", path))
    assert_secure(stack.call("POST", "/api/v1/search", json={"question": "pressure?"}))
    assert_secure(stack.call("GET", "/api/v1/documents", token="x.y.z"))
    assert_secure(stack.call("PATCH", "/api/v1/documents"))
    for path in ("/docs", "/openapi.json"):
        assert_secure(requests.get(stack.url + path, timeout=5), "public, max-age=60")
    assert "Strict-Transport-Security" not in stack.call("GET", "/api/v1/documents").headers, "plain HTTP on a laptop"


def test_what_the_library_answers_is_a_problem_document_too(stack):
    port = int(stack.url.rsplit(":", 1)[1])
    heads = {b"NONSENSE\r\n\r\n": {400}, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40000 + b"\r\n\r\n": {413, 414, 431, 400},
             b"GET /" + b"y" * 40000 + b" HTTP/1.1\r\nHost: a\r\n\r\n": {413, 414, 431, 400}, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n": {400, 505},
             b"POST /api/v1/search HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n": {400, 501}, b"SMUGGLE / HTTP/1.1\r\nHost: a\r\n\r\n": {400, 404, 405},
             b"POST /api/v1/search HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n": {400, 411}, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n": {400}}
    for data, allowed in heads.items():
        answer = exchange(port, data)
        assert len(statuses(answer)) == 1 and statuses(answer)[0] in allowed, (data[:40], answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        problem = json.loads(body)
        assert problem["status"] == statuses(answer)[0] and problem["code"] and problem["request_id"], answer
        for name, value in {**SECURE, "Cache-Control": "no-store", "Content-Type": "application/problem+json"}.items():
            assert f"\r\n{name}: {value}\r\n".encode() in head + b"\r\n", (data[:40], name)


def test_pages_of_listed_origins_may_read_and_others_may_not(stack):
    with another_edge(stack, ALLOWED_ORIGINS=ORIGIN, CORDON_RATE_ADDRESS="1000") as edge:
        answer = ask(edge, token=stack.token(), Origin=ORIGIN)
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN and "RateLimit" in answer.headers["Access-Control-Expose-Headers"]
        preflight = ask(edge, method="OPTIONS", Origin=ORIGIN, **{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"})
        assert preflight.status_code == 204 and "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"] and "Origin" in preflight.headers["Vary"]
        for origin in ("https://evil.example", "https://app.example.evil", "http://app.example", "null", "*"):
            answer = ask(edge, token=stack.token(), Origin=origin)
            assert answer.status_code == 200 and "Access-Control-Allow-Origin" not in answer.headers and "Origin" in answer.headers["Vary"]
            refused = ask(edge, method="OPTIONS", Origin=origin, **{"Access-Control-Request-Method": "POST"})
            assert refused.status_code == 405 and "Access-Control-Allow-Origin" not in refused.headers


def test_only_listed_hosts_are_served_but_health_is_for_all(stack):
    with another_edge(stack, CORDON_ALLOWED_HOSTS="api.example, [::1]") as edge:
        for host in ("api.example", "API.example:8443", "[::1]:80"):
            assert ask(edge, token=stack.token(), Host=host).status_code == 200
        for host in ("evil.example", "api.example.evil", "127.0.0.1"):
            refused = ask(edge, token=stack.token(), Host=host)
            assert (refused.status_code, refused.json()["code"]) == (421, "REQ_013")
        assert ask(edge, "/api/v1/health/live", Host="10.0.0.7").status_code == 200


# ---- TLS in front ----

def handshake(port, version, ciphers=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_ciphers((ciphers or "ALL") + ":@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain) as secure:
        return secure.version(), secure.cipher()[0]


def test_tls_in_front_is_modern_and_tells_the_edge_who_asks(stack, tmp_path):
    with another_edge(stack, CORDON_TRUSTED_PROXIES="127.0.0.1/32") as edge, tls_in_front(edge.port, tmp_path) as tls:
        assert handshake(tls.port, ssl.TLSVersion.TLSv1_3)[0] == "TLSv1.3"
        assert handshake(tls.port, ssl.TLSVersion.TLSv1_2)[1].endswith(("GCM-SHA256", "GCM-SHA384", "POLY1305"))
        for version, ciphers in ((ssl.TLSVersion.TLSv1, None), (ssl.TLSVersion.TLSv1_1, None), (ssl.TLSVersion.TLSv1_2, "AES128-SHA"),
                                 (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-SHA256"), (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES256-SHA"),
                                 (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256")):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                handshake(tls.port, version, ciphers)
        session = requests.Session()
        session.verify, session.trust_env = tls.certificate, False
        answer = session.get(tls.url + "/api/v1/documents", headers={"Authorization": f"Bearer {stack.token()}"}, timeout=10)
        assert answer.status_code == 200 and answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        before = len(events(stack, "auth.denied"))
        assert session.get(tls.url + "/api/v1/documents", headers={"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6"}, timeout=10).status_code == 401
        wait_for("the refusal on record", lambda: len(events(stack, "auth.denied")) > before, 10)
        assert not events(stack, "auth.denied", remote_address="6.6.6.6")
        upload = session.post(tls.url + "/api/v1/documents", data=b"Through TLS: the pulse was regular." * 30000,
                              headers={"Authorization": f"Bearer {stack.token()}", "Content-Type": "text/plain"}, timeout=30)
        assert upload.status_code == 202, upload.text
        assert requests.get(f"http://127.0.0.1:{tls.state_port}/live", timeout=5).status_code == 200
        context = ssl.create_default_context(cafile=tls.certificate)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with context.wrap_socket(socket.create_connection(("127.0.0.1", tls.port), 5), server_hostname="localhost") as sock:
            assert sock.selected_alpn_protocol() == "h2"
        edge.process.terminate()
        edge.process.wait(60)

        def down():
            answer = session.get(tls.url + "/api/v1/documents", timeout=10)
            return (answer,) if answer.status_code == 503 else None
        gone, = wait_for("its own 503", down, 10)
        assert gone.headers["Content-Type"] == "application/problem+json" and gone.json()["code"] == "SRV_001"
