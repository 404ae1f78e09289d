"""Hostile HTTP as raw bytes, to the edge itself and through TLS in front of it: each shape is refused or harmless, and
whatever is hidden in one is never carried out. The canary is a document: most shapes try to smuggle its deletion,
under a token that may delete it."""
import concurrent.futures

import pytest

from conftest import wait_for
from front import another_edge, exchange, statuses, tls_in_front
from test_health import metrics_of

REFUSED = {0, 400, 404, 405, 411, 413, 415, 421, 431, 501}      # 0: hung up without a word
FINE = {200}


def shapes(bearer, canary):
    """(name, bytes, what may come back first)."""
    inner = f"DELETE /api/v1/documents/{canary} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n"
    get = "GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\n"
    post = f"POST /api/v1/search HTTP/1.1\r\nHost: a\r\n{bearer}Content-Type: application/json\r\n"
    put = f"POST /api/v1/documents HTTP/1.1\r\nHost: a\r\n{bearer}Content-Type: text/plain\r\n"
    n = len(inner)
    chunked = "Transfer-Encoding: chunked\r\n"
    rows = [
        # two lengths, or a length and chunks
        ("CL.TE", post + f"Content-Length: 5\r\n{chunked}\r\n0\r\n\r\n{inner}", REFUSED),
        ("TE.CL", post + f"{chunked}Content-Length: 4\r\n\r\n{n:x}\r\n{inner}\r\n0\r\n\r\n", REFUSED),
        ("TE.TE, one of them odd", post + f"{chunked}Transfer-Encoding: x\r\n\r\n0\r\n\r\n{inner}", REFUSED),
        ("TE.TE, twice chunked", post + f"{chunked}{chunked}\r\n0\r\n\r\n{inner}", REFUSED),
        ("TE: chunked, chunked", post + f"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{inner}", REFUSED),
        ("TE: gzip, chunked", post + f"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{inner}", REFUSED),
        ("TE: identity", post + f"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n{inner}", REFUSED),
        ("TE: xchunked", post + f"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}", REFUSED),
        ("TE: vertical tab before chunked", post + f"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{inner}", REFUSED),
        ("space before the colon of TE", post + f"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inner}", REFUSED),
        ("TE by an underscore", post + f"Transfer_Encoding: chunked\r\nContent-Length: 0\r\n\r\n{inner}", REFUSED | FINE),
        ("TE in HTTP/1.0", post.replace("1.1", "1.0") + f"{chunked}\r\n0\r\n\r\n{inner}", REFUSED),
        ("two Content-Lengths that differ", post + f"Content-Length: 0\r\nContent-Length: {n}\r\n\r\n{inner}", REFUSED),
        ("two Content-Lengths that agree", post + f"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}{inner}", REFUSED),
        ("Content-Length: 2, 2", post + f"Content-Length: 2, 2\r\n\r\n{{}}{inner}", REFUSED),
        ("Content-Length: 0x2", post + f"Content-Length: 0x2\r\n\r\n{{}}{inner}", REFUSED),
        ("Content-Length: +2", post + f"Content-Length: +2\r\n\r\n{{}}{inner}", REFUSED),
        ("Content-Length: -1", post + f"Content-Length: -1\r\n\r\n{inner}", REFUSED),
        ("Content-Length: 2abc", post + f"Content-Length: 2abc\r\n\r\n{{}}{inner}", REFUSED),
        ("Content-Length of 20 digits", post + f"Content-Length: 99999999999999999999\r\n\r\n{inner}", REFUSED),
        ("empty Content-Length", post + f"Content-Length:\r\n\r\n{inner}", REFUSED),
        ("Content-Length with an octal look", post + f"Content-Length: 002\r\n\r\n{{}}{inner}", REFUSED),
        ("a body where none is wanted", f"GET /api/v1/documents HTTP/1.1\r\nHost: a\r\n{bearer}Content-Length: {n}\r\n\r\n{inner}", REFUSED),
        ("a body behind GET without a length", get + f"\r\n{inner}", FINE),
        # chunks
        ("chunk size that is no number", put + f"{chunked}\r\nzz\r\n{inner}", REFUSED),
        ("chunk size of 0x5", put + f"{chunked}\r\n0x5\r\nabcde\r\n0\r\n\r\n{inner}", REFUSED),
        ("negative chunk size", put + f"{chunked}\r\n-5\r\nabcde\r\n0\r\n\r\n{inner}", REFUSED),
        ("chunk size of 64 bits", put + f"{chunked}\r\nffffffffffffffff\r\nabcde\r\n0\r\n\r\n{inner}", REFUSED),
        ("chunk size of 65 bits", put + f"{chunked}\r\n10000000000000005\r\nabcde\r\n0\r\n\r\n{inner}", REFUSED),
        ("chunk extensions", put + f"{chunked}\r\n5;a=b\r\nhello\r\n0\r\n\r\n{inner}", REFUSED | {202}),
        ("a chunk longer than it says", put + f"{chunked}\r\n5\r\nhelloXX\r\n0\r\n\r\n{inner}", REFUSED),
        ("chunks with bare LF", put + f"{chunked}\r\n5\nhello\n0\n\n{inner}", REFUSED),
        ("chunks that stop", put + f"{chunked}\r\nff\r\nhello", REFUSED | {408}),
        ("trailers", post + f"{chunked}\r\n2\r\n{{}}\r\n0\r\nContent-Length: 5\r\nX-Real-IP: 1.2.3.4\r\n\r\n{inner}", REFUSED),
        # lines
        ("obs-fold", f"GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n{inner}", REFUSED | FINE),
        ("obs-fold before a length", post + f"X: 1\r\n Content-Length: {n}\r\n\r\n{inner}", REFUSED),
        ("bare LF", "GET /api/v1/health/live HTTP/1.1\nHost: a\n\n", REFUSED | FINE),
        ("bare LF between headers", f"GET /api/v1/health/live HTTP/1.1\r\nHost: a\nX: b\r\n\r\n{inner}", REFUSED | FINE),
        ("bare CR in a value", f"GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX: a\rContent-Length: {n}\r\n\r\n{inner}", REFUSED),
        ("NUL in a value", f"GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n{inner}", REFUSED),
        ("NUL in the path", f"GET /api/v1/health/li\0ve HTTP/1.1\r\nHost: a\r\n\r\n{inner}", REFUSED),
        ("space in a header's name", f"GET /api/v1/health/live HTTP/1.1\r\nHo st: a\r\n\r\n{inner}", REFUSED),
        ("a header without a name", f"GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n{inner}", REFUSED),
        ("a header without a colon", f"GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX\r\n\r\n{inner}", REFUSED),
        ("bytes above 127 in a name", f"GET /api/v1/health/live HTTP/1.1\r\nHost: a\r\nX\x80: b\r\n\r\n{inner}", REFUSED),
        ("two Hosts", f"GET /api/v1/documents HTTP/1.1\r\nHost: a\r\nHost: b\r\n{bearer}\r\n{inner}", REFUSED),
        ("no Host", f"GET /api/v1/documents HTTP/1.1\r\n{bearer}\r\n{inner}", REFUSED),
        ("Host with a path", f"GET /api/v1/documents HTTP/1.1\r\nHost: a/b\r\n{bearer}\r\n{inner}", REFUSED),
        ("Host with a user", f"GET /api/v1/documents HTTP/1.1\r\nHost: a@b\r\n{bearer}\r\n{inner}", REFUSED),
        ("two Authorizations", f"GET /api/v1/documents HTTP/1.1\r\nHost: a\r\n{bearer}{bearer}\r\n{inner}", REFUSED),
        ("65 headers", get + "X: y\r\n" * 64 + "\r\n" + inner, REFUSED),
        ("65 headers, the last one a length", post + "X: y\r\n" * 64 + f"Content-Length: {n}\r\n\r\n{inner}", REFUSED),
        ("a header of 20 KB", get.replace("health/live", "documents") + f"X: {'y' * 20000}\r\n\r\n{inner}", REFUSED),
        ("a head of 60 KB", get + f"X: {'y' * 60000}\r\n\r\n{inner}", REFUSED),
        ("a name of 4 KB", get.replace("health/live", "documents") + f"{'X' * 4096}: y\r\n\r\n{inner}", REFUSED),
        # the request line
        ("absolute form", f"GET http://evil/api/v1/documents HTTP/1.1\r\nHost: a\r\n{bearer}\r\n{inner}", REFUSED),
        ("asterisk form", f"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n{inner}", REFUSED | FINE),
        ("authority form", f"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n{inner}", REFUSED),
        ("TRACE", f"TRACE /api/v1/documents HTTP/1.1\r\nHost: a\r\n{bearer}\r\n{inner}", REFUSED),
        ("an unknown method", f"SMUGGLE /api/v1/documents HTTP/1.1\r\nHost: a\r\n{bearer}\r\n{inner}", REFUSED),
        ("a method in small letters", f"delete /api/v1/documents/{canary} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", REFUSED),
        ("a method by header", f"POST /api/v1/documents/{canary} HTTP/1.1\r\nHost: a\r\n{bearer}X-HTTP-Method-Override: DELETE\r\nContent-Length: 0\r\n\r\n", REFUSED),
        ("HTTP/0.9", f"GET /api/v1/health/live\r\n\r\n{inner}", REFUSED),
        ("HTTP/2.0 by name", f"GET /api/v1/health/live HTTP/2.0\r\nHost: a\r\n\r\n{inner}", REFUSED | {505}),
        ("HTTP/1.10", f"GET /api/v1/health/live HTTP/1.10\r\nHost: a\r\n\r\n{inner}", REFUSED | {505}),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + inner, REFUSED | {505}),
        ("percent-encoded slashes", f"DELETE /api/v1%2fdocuments/{canary} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", REFUSED),
        ("percent-encoded letters", f"DELETE /api/v1/%64ocuments/{canary} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", REFUSED),
        ("percent and no digits", f"DELETE /api/v1/documents/{canary}%zz HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", REFUSED),
        ("an encoded NUL", f"DELETE /api/v1/documents/{canary}%00 HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", REFUSED),
        ("dots", f"DELETE /api/v1/x/../documents/{canary} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", REFUSED),
        ("a semicolon", f"DELETE /api/v1/documents/{canary};x HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", REFUSED),
        ("backslashes", f"DELETE \\api\\v1\\documents\\{canary} HTTP/1.1\r\nHost: a\r\n{bearer}\r\n", REFUSED),
        # what asks for another protocol, or for patience
        ("Upgrade: h2c", get + f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n{inner}", REFUSED | FINE),
        ("Upgrade: websocket", get + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
         f"Sec-WebSocket-Version: 13\r\n\r\n{inner}", REFUSED | FINE),
        ("Expect: something", get.replace("health/live", "documents") + f"Expect: nothing\r\n\r\n{inner}", REFUSED | {417}),
        ("Expect in HTTP/1.0", post.replace("1.1", "1.0") + f"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{{}}{inner}", REFUSED),
        ("a request behind a refused body", f"POST /api/v1/search HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {n}\r\n\r\n{inner}", REFUSED | {401}),
        ("a request behind a body that was too large", post + f"Content-Length: 9000000\r\n\r\n{inner}", REFUSED),
        ("Connection names Content-Length", post + f"Connection: Content-Length\r\nContent-Length: {n}\r\n\r\n{inner}", REFUSED),
        ("leading empty lines", f"\r\n\r\n{get}\r\n", REFUSED | FINE),
        ("nothing but garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + inner, REFUSED),
    ]
    return [(name, text.encode("latin-1"), allowed) for name, text, allowed in rows]


@pytest.fixture(scope="module")
def canary(stack):
    return stack.ingest(b"The canary sings in the coal mine.")["id"]


def deletions(stack):
    text = metrics_of(stack, "ingest-worker")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("cordon_requests_total") and '"ingest.DeleteDocument"' in line)


def walk(stack, canary, port, certificate=None):
    rows = shapes(f"Authorization: Bearer {stack.token()}\r\n", canary)
    assert len(rows) >= 45
    before = deletions(stack)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda row: exchange(port, row[1], certificate), rows))
    assert deletions(stack) == before, "one of the shapes had the canary deleted"
    assert stack.call("GET", f"/api/v1/documents/{canary}").status_code == 200
    return rows, answers


def test_hostile_shapes_are_refused_or_harmless_at_the_edge(stack, canary):
    rows, answers = walk(stack, canary, int(stack.url.rsplit(":", 1)[1]))
    wrong = []
    for (name, _, allowed), answer in zip(rows, answers):
        seen = statuses(answer)
        if len(seen) > 1 or (seen or [0])[0] not in allowed:
            wrong.append((name, seen))
        elif seen and seen[0] >= 400 and (b"application/problem+json" not in answer or b"\r\nX-Content-Type-Options: nosniff\r\n" not in answer):
            wrong.append((name, answer))
    assert not wrong, wrong


def test_hostile_shapes_are_refused_or_harmless_through_tls(stack, canary, tmp_path):
    """Between the two nothing may be read twice. What lies behind a whole request is a request of its own there: it
    is refused (the shapes' second requests come on the same connection, so their head must not be taken for one)."""
    with another_edge(stack, CORDON_TRUSTED_PROXIES="127.0.0.1/32") as edge, tls_in_front(edge.port, tmp_path) as tls:
        rows = [row for row in shapes(f"Authorization: Bearer {stack.token()}\r\n", canary)]
        # Honest pipelining: the second request is no smuggled one, and HAProxy is right to pass it on.
        honest = {"a body behind GET without a length", "trailers", "chunk extensions", "Upgrade: h2c", "Upgrade: websocket", "leading empty lines",
                  "TE by an underscore", "bare LF", "asterisk form", "Connection names Content-Length"}
        rows = [row for row in rows if row[0] not in honest]
        before = deletions(stack)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda row: exchange(tls.port, row[1], tls.certificate), rows))
        # HAProxy has its own words for some, and takes the name HTTP/2.0 for HTTP/1.1, which it then speaks to the edge.
        fine = {401, 403, 408, 422}
        wrong = [(row[0], statuses(answer)) for row, answer in zip(rows, answers) if row[0] != "HTTP/2.0 by name"
                 and ((statuses(answer) or [0])[0] not in row[2] | fine or max(statuses(answer) or [0]) >= 500 and 505 not in row[2])]
        assert deletions(stack) == before, [(row[0], statuses(answer)) for row, answer in zip(rows, answers)]
        assert not wrong, wrong


def test_a_request_that_was_cut_or_repeated_is_carried_out_once(stack, tmp_path):
    """The same upload pipelined three times on one connection, and cut in its middle: as many documents as answers that say so."""
    marker = "The gait was steady, told once."
    body = (f"POST /api/v1/documents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {stack.token()}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(marker)}\r\n\r\n{marker}").encode()

    def count():
        with stack.database() as db, db.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM app.documents WHERE bytes = %s", (len(marker),))
            return cursor.fetchone()[0]
    before = count()
    answers = statuses(exchange(int(stack.url.rsplit(":", 1)[1]), body * 3)) + statuses(exchange(int(stack.url.rsplit(":", 1)[1]), body[:-5]))
    assert answers.count(202) == 1, answers
    wait_for("one document", lambda: count() == before + 1, 10)
    with another_edge(stack) as edge, tls_in_front(edge.port, tmp_path) as tls:
        taken = statuses(exchange(tls.port, body + body, tls.certificate, patience=3)).count(202)
    assert count() == before + 1 + taken
