"""Documents: upload, list, read, download, delete, and what happens to bad ones."""
import hashlib
import uuid

import requests

NOTE = b"Progress note. Patient reports less dyspnea on exertion. Weight 81.4 kg. Furosemide continued at 40 mg daily.\n"


def document_of(answer):
    return answer.json()["document"]


def test_upload_is_accepted_ingested_and_comes_back_byte_for_byte(stack):
    answer = stack.upload(NOTE, name="progress note 7.txt")
    assert answer.status_code == 202
    made = answer.json()
    assert made["status"] == "processing" and uuid.UUID(made["document_id"]).version == 7
    document = stack.wait_ready(made["document_id"])
    assert document["status"] == "ready"
    assert document["file_name"] == "progress note 7.txt"
    assert document["bytes"] == len(NOTE)
    assert document["chunks"] >= 1
    content = stack.call("GET", f"/api/v1/documents/{made['document_id']}/content")
    assert content.status_code == 200
    assert content.content == NOTE
    assert content.headers["Content-Type"].startswith("text/plain")
    assert "progress note 7.txt" in content.headers["Content-Disposition"]
    assert content.headers["X-Content-Type-Options"] == "nosniff"


def test_job_of_an_upload_ends_as_succeeded(stack):
    made = stack.upload(NOTE).json()
    stack.wait_ready(made["document_id"])
    job = stack.call("GET", f"/api/v1/jobs/{made['job_id']}").json()["job"]
    assert job["state"] == "succeeded"
    assert job["document_id"] == made["document_id"]
    assert job["attempt"] == 1
    assert job["chunks_done"] == job["chunks_total"] >= 1


def test_multipart_upload_is_the_same_as_a_raw_one(stack):
    answer = stack.call("POST", "/api/v1/documents", files={"file": ("visit.md", b"# Visit\n\nBlood pressure 128/76.\n", "text/markdown")})
    assert answer.status_code == 202, answer.text
    document = stack.wait_ready(answer.json()["document_id"])
    assert (document["file_name"], document["content_type"]) == ("visit.md", "text/markdown")
    content = stack.call("GET", f"/api/v1/documents/{document['id']}/content")
    assert content.content == b"# Visit\n\nBlood pressure 128/76.\n"


def test_large_upload_of_several_parts_survives_the_way(stack):
    line = b"Observation: no change in gait, appetite or sleep since the last contact.\n"
    body = line * 50 + b"\n" * 700_000 + line * 50
    document = stack.ingest(body)
    content = stack.call("GET", f"/api/v1/documents/{document['id']}/content").content
    assert hashlib.sha256(content).hexdigest() == hashlib.sha256(body).hexdigest()


def test_multi_part_original_over_five_mebibytes_comes_back_whole(stack):
    pdf = (b"%PDF-1.4\n" + b"%" + b"x" * 80 + b"\n") + b"".join(b"%% filler %09d\n" % n for n in range(500_000))
    answer = stack.upload(pdf, "application/pdf", "filler.pdf")
    assert answer.status_code == 202, answer.text
    document = stack.wait_ready(answer.json()["document_id"])
    assert document["status"] == "failed"            # no pages in it, but the original is kept
    content = stack.call("GET", f"/api/v1/documents/{document['id']}/content")
    assert hashlib.sha256(content.content).hexdigest() == hashlib.sha256(pdf).hexdigest()


def test_list_pages_by_cursor_without_gaps_or_repeats(stack):
    mine = [stack.ingest(b"Paging sample %d, nothing else of note here." % n)["id"] for n in range(5)]
    seen, cursor = [], None
    while True:
        answer = stack.call("GET", "/api/v1/documents", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["documents"]) <= 2
        seen += [d["id"] for d in page["documents"]]
        cursor = page.get("next_cursor")
        if not cursor:
            break
    assert len(seen) == len(set(seen))
    assert set(mine) <= set(seen)
    assert [d for d in seen if d in mine] == mine[::-1]       # newest first


def test_deleted_document_is_gone_for_every_reader(stack):
    document = stack.ingest(b"The patient keeps two greyhounds named Saturn and Vega.")
    path = f"/api/v1/documents/{document['id']}"
    assert stack.call("DELETE", path).status_code == 204
    for answer in (stack.call("GET", path), stack.call("GET", path + "/content"), stack.call("DELETE", path)):
        assert answer.status_code == 404 and answer.json()["code"] == "RES_001"
    assert document["id"] not in [d["id"] for d in stack.call("GET", "/api/v1/documents").json()["documents"]]
    hits = stack.call("POST", "/api/v1/search", json={"question": "What are the greyhounds called?"}).json()["hits"]
    assert document["id"] not in [h["document_id"] for h in hits]


def test_bad_documents_fail_with_a_reason_a_person_can_act_on(stack):
    cases = [
        (b"%PDF-1.4\ngarbage", "application/pdf", "DOC_004"),
        (b"no pdf at all", "application/pdf", "DOC_004"),
        (b"   \n\t ", "text/plain", "DOC_003"),
        (b"caf\xe9", "text/plain", "DOC_004"),
    ]
    for body, content_type, reason in cases:
        answer = stack.upload(body, content_type)
        assert answer.status_code == 202, answer.text
        document = stack.wait_ready(answer.json()["document_id"])
        assert (document["status"], document["reason_code"]) == ("failed", reason), (body, document)


def test_refused_uploads_say_why_and_leave_nothing(stack):
    before = len(stack.call("GET", "/api/v1/documents", params={"limit": 100}).json()["documents"])
    for body, content_type, http, code in [(b"", "text/plain", 400, "DOC_002"), (b"MZ", "application/x-msdownload", 415, "DOC_001")]:
        answer = stack.upload(body, content_type)
        assert answer.status_code == http, answer.text
        problem = answer.json()
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert problem["code"] == code and problem["request_id"] == answer.headers["X-Request-ID"]
    digest = stack.call("POST", "/api/v1/documents", data=NOTE, headers={
        "Content-Type": "text/plain", "Content-Digest": "sha-256=:" + "A" * 43 + "=:"})
    assert (digest.status_code, digest.json()["code"]) == (400, "DOC_007")
    after = len(stack.call("GET", "/api/v1/documents", params={"limit": 100}).json()["documents"])
    assert after == before


def test_body_over_the_limit_is_refused_before_it_is_read(stack):
    import socket
    host, port = stack.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as s:
        s.sendall((f"POST /api/v1/documents HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {stack.token()}\r\n"
                   "Content-Type: text/plain\r\nContent-Length: 99999999999999\r\n\r\n").encode())
        assert b" 413 " in s.recv(200).split(b"\r\n")[0] + b" "


def test_body_that_stops_early_leaves_no_document(stack):
    import socket
    host, port = stack.url.removeprefix("http://").split(":")
    before = [d["id"] for d in stack.call("GET", "/api/v1/documents", params={"limit": 100}).json()["documents"]]
    for cut in (0, 1, 1000):
        with socket.create_connection((host, int(port))) as s:
            s.sendall((f"POST /api/v1/documents HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {stack.token()}\r\n"
                       "Content-Type: text/plain\r\nContent-Length: 5000\r\n\r\n").encode() + b"x" * cut)
            s.shutdown(socket.SHUT_WR)
            head = s.recv(300)
            assert head == b"" or b" 400 " in head.split(b"\r\n")[0] + b" ", head
    after = [d["id"] for d in stack.call("GET", "/api/v1/documents", params={"limit": 100}).json()["documents"]]
    assert after == before


def test_every_answer_has_a_request_id_and_errors_are_problems(stack):
    for method, path, http in [("GET", "/api/v1/nowhere", 404), ("PUT", "/api/v1/documents", 405),
                               ("GET", "/api/v1/documents/not-a-uuid", 400)]:
        answer = stack.call(method, path)
        assert answer.status_code == http, (path, answer.text)
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
        assert set(answer.json()) >= {"type", "title", "status", "code", "request_id"}


def test_no_token_a_bad_token_and_a_missing_scope_are_refused(stack):
    assert requests.get(stack.url + "/api/v1/documents", timeout=10).status_code == 401
    bad = stack.call("GET", "/api/v1/documents", token="abc.def.ghi")
    assert bad.status_code == 401 and "WWW-Authenticate" in bad.headers
    auditor = stack.call("GET", "/api/v1/documents", role="auditor")
    assert (auditor.status_code, auditor.json()["code"]) == (403, "AUTH_002")
    reviewer = stack.upload(NOTE, role="reviewer")
    assert (reviewer.status_code, reviewer.json()["code"]) == (403, "AUTH_002")
