"""Originals in the document store: opened by a program that shares nothing with Cordon, given in ranges, and compared with the
database both ways."""
import contextlib
import os
import random
import subprocess
import sys
import time
import uuid

import boto3
import pytest

from conftest import ROOT, wait_for

ORIGINALS, SHARES = "cordon-documents", "cordon-shares"


@pytest.fixture(scope="module")
def s3(stack):
    cloud = stack.info["cloud"]
    return boto3.client("s3", endpoint_url=cloud["url"], region_name=cloud["region"], aws_access_key_id=cloud["access_key_id"],
                        aws_secret_access_key=cloud["secret_access_key"])


@pytest.fixture(scope="module")
def large(stack):
    """A document of many frames and more than one part of its multipart upload: (id, bytes)."""
    body = ("All is well today. " * 380000).encode() + bytes(f"{random.random()}\n" * 100, "ascii")
    assert len(body) > 6 << 20
    answer = stack.upload(body, name="long note.txt")
    assert answer.status_code == 202, answer.text
    return answer.json()["document_id"], body


def independent(stack, document, *part):
    cloud = stack.info["cloud"]
    env = {"PATH": os.environ["PATH"], "AWS_REGION": cloud["region"], "AWS_ACCESS_KEY_ID": cloud["access_key_id"],
           "AWS_SECRET_ACCESS_KEY": cloud["secret_access_key"], "AWS_ENDPOINT_URL_S3": cloud["url"], "AWS_ENDPOINT_URL_KMS": cloud["url"],
           "CORDON_DOCUMENT_BUCKET": ORIGINALS, "CORDON_SHARE_BUCKET": "cordon-shares"}
    return subprocess.run([sys.executable, ROOT / "tests/tools/open_original.py", stack.info["postgres"]["admin_url"], document,
                           *map(str, part)], env=env, check=True, capture_output=True).stdout


def test_an_original_opens_without_cordon(stack, large):
    document, body = large
    assert independent(stack, document) == body
    assert independent(stack, document, 1_000_000, 70_000) == body[1_000_000:1_070_000]
    assert independent(stack, document, len(body) - 5, 5) == body[-5:]


def test_ranges_make_up_the_whole_and_each_is_on_the_record(stack, large):
    document, body = large
    path, tag = f"/api/v1/documents/{document}/content", f'"{document}"'
    head = stack.call("HEAD", path)
    assert (head.status_code, head.headers["ETag"], head.headers["Accept-Ranges"], int(head.headers["Content-Length"]), head.content) == (
        200, tag, "bytes", len(body), b"")
    got, step = b"", 1 << 21
    for at in range(0, len(body), step):
        part = stack.call("GET", path, headers={"Range": f"bytes={at}-{at + step - 1}", "If-Range": tag})
        assert part.status_code == 206
        assert part.headers["Content-Range"] == f"bytes {at}-{min(at + step, len(body)) - 1}/{len(body)}"
        got += part.content
    assert got == body
    unchanged = stack.call("GET", path, headers={"If-None-Match": tag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert "Content-Disposition" not in unchanged.headers
    assert stack.call("GET", path, headers={"Range": f"bytes={len(body)}-"}).headers["Content-Range"] == f"bytes */{len(body)}"
    with stack.database() as db, db.cursor() as cursor:
        def recorded(answer):
            cursor.execute("SELECT convert_from(event, 'utf8')::jsonb->'detail' FROM audit.audit_logs WHERE request_id = %s AND action = 'document.content.read'",
                           (answer.headers["X-Request-ID"],))
            return cursor.fetchone()[0]
        assert recorded(head) == {"part": "head"}
        assert recorded(part) == {"part": "range", "from": at, "bytes": len(body) - at}
        assert recorded(unchanged) == {"part": "unchanged"}


def test_conditions_tell_nothing_about_another_tenants_original(stack, large):
    document, absent = large[0], str(uuid.uuid4())
    for method in ("GET", "HEAD"):
        for headers in ({"If-None-Match": "*"}, {"If-None-Match": f'"{document}"'}, {"If-Match": '"x"'}, {"Range": "bytes=99999999-"}, {}):
            foreign, none = (stack.call(method, f"/api/v1/documents/{id}/content", tenant="lakeside", headers=headers) for id in (document, absent))
            assert foreign.status_code == none.status_code == 404
            assert foreign.text.replace(foreign.headers["X-Request-ID"], "") == none.text.replace(none.headers["X-Request-ID"], "")
            drop = {"Date", "X-Request-ID", "Server-Timing", "RateLimit"}
            assert {k: v for k, v in foreign.headers.items() if k not in drop} == {k: v for k, v in none.headers.items() if k not in drop}


# ---- the comparison ----

def compare_now(stack, store="originals"):
    """Has everything of a store compared, and waits until it was."""
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        since = cursor.fetchone()[0]
        cursor.execute("UPDATE jobs.schedules SET next_run_at = clock_timestamp() WHERE name = %s", ({"originals": "reconcile", "shares": "reconcile_shares"}[store],))

        def over():
            cursor.execute("SELECT began_at > %s AND ended_at IS NOT NULL FROM jobs.store_pass WHERE store = %s", (since, store))
            return cursor.fetchone()[0]
        wait_for("a pass over the document store", over, 60)
        cursor.execute("SELECT kind, tenant_id::text, document_id::text, expected_bytes, found_bytes, versions FROM jobs.store_differences WHERE store = %s", (store,))
        return {row[2]: row for row in cursor.fetchall()}


def events(stack, action, since):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT tenant_id::text, convert_from(event, 'utf8')::jsonb FROM audit.audit_logs WHERE action = %s AND recorded_at > %s",
                       (action, since))
        return cursor.fetchall()


@contextlib.contextmanager
def changed(s3, key, body):
    """Another object under the key, until it is put back as it was."""
    was = s3.list_object_versions(Bucket=ORIGINALS, Prefix=key).get("Versions", [])
    version = s3.put_object(Bucket=ORIGINALS, Key=key, Body=body)["VersionId"]
    yield
    s3.delete_object(Bucket=ORIGINALS, Key=key, VersionId=version)
    assert s3.list_object_versions(Bucket=ORIGINALS, Prefix=key).get("Versions", []) == was


def test_differences_between_store_and_database_are_found_reported_and_left_as_they_are(stack, s3):
    missing, longer, doubled = (stack.ingest(f"Note {n}: nothing new.".encode()) for n in range(3))
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT tenant_id::text, clock_timestamp() FROM app.documents WHERE id = %s", (missing["id"],))
        tenant, since = cursor.fetchone()
    key = {d["id"]: f"tenants/{tenant}/{d['id']}" for d in (missing, longer, doubled)}
    before = compare_now(stack)
    assert not set(key) & set(before), before
    orphan, unknown = str(uuid.uuid4()), str(uuid.uuid4())
    s3.put_object(Bucket=ORIGINALS, Key=f"tenants/{tenant}/{orphan}", Body=b"left behind")
    s3.put_object(Bucket=ORIGINALS, Key=f"tenants/{unknown}/{orphan[::-1].replace('-', '')}", Body=b"no document's key")
    s3.put_object(Bucket=ORIGINALS, Key=f"tenants/{unknown}/{unknown}", Body=b"nobody's")
    marker = s3.delete_object(Bucket=ORIGINALS, Key=key[missing["id"]])["VersionId"]
    same = s3.get_object(Bucket=ORIGINALS, Key=key[doubled["id"]])["Body"].read()
    with changed(s3, key[longer["id"]], b"x" * 1000), changed(s3, key[doubled["id"]], same):
        found = compare_now(stack)
        assert found[missing["id"]][0] == "missing"
        assert found[longer["id"]][0] == "size" and found[longer["id"]][3:] == (longer["bytes"] + 13 + 16, 1000, 2)
        assert found[doubled["id"]][0] == "versions" and found[doubled["id"]][5] == 2
        assert found[orphan][:2] == ("orphan", tenant) and found[orphan][4] == len(b"left behind")
        assert found[unknown][:2] == ("orphan", unknown)
        assert found[str(uuid.UUID(int=0))][0] == "foreign"
        assert len(found) == len(before) + 6
        told = wait_for("its events", lambda: len(rows := events(stack, "store.difference", since)) == 6 and rows, 30)
        assert {row[1]["detail"]["kind"] for row in told if row[0] == tenant} == {"missing", "size", "versions"}
        assert sorted(row[1]["detail"]["kind"] for row in told if row[0] != tenant) == ["foreign", "orphan", "orphan"]
    s3.delete_object(Bucket=ORIGINALS, Key=key[missing["id"]], VersionId=marker)
    still = compare_now(stack)
    assert set(still) == set(before) | {orphan, unknown, str(uuid.UUID(int=0))}, "what was mended is no difference any more, and nothing was deleted"
    assert stack.call("GET", f"/api/v1/documents/{missing['id']}/content").content == b"Note 0: nothing new."
    wait_for("their end on the log", lambda: len(events(stack, "store.difference.end", since)) == 3, 30)
    for prefix in (f"tenants/{tenant}/{orphan}", f"tenants/{unknown}/"):
        for version in s3.list_object_versions(Bucket=ORIGINALS, Prefix=prefix)["Versions"]:
            s3.delete_object(Bucket=ORIGINALS, Key=version["Key"], VersionId=version["VersionId"])
    assert compare_now(stack) == before
    passes = events(stack, "store.compare", since)
    assert passes and all(row[1]["detail"]["objects"] > 0 for row in passes)


def test_key_shares_without_rows_and_rows_without_shares_are_found_and_left_as_they_are(stack, s3):
    missing, longer = (stack.ingest(f"Note {n} with a key of two shares.".encode()) for n in range(2))
    asked = stack.call("POST", "/api/v1/query", json={"question": "What has a key of two shares?", "filter": {"document_ids": [longer["id"]]}})
    assert asked.status_code == 200, asked.text
    conversation, now_ms = asked.json()["conversation_id"], int(time.time() * 1000)
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("SELECT tenant_id::text, clock_timestamp() FROM app.documents WHERE id = %s", (missing["id"],))
        tenant, since = cursor.fetchone()
    before = compare_now(stack, "shares")
    assert not {missing["id"], longer["id"], conversation} & set(before), before

    def v7(ms):
        return str(uuid.UUID(int=ms << 80 | 7 << 76 | 2 << 62 | random.getrandbits(62)))
    orphan, young = v7(now_ms - 2 * 3600 * 1000), v7(now_ms)        # of a conversation that waits for its row, perhaps
    key = {name: f"tenants/{tenant}/{name}" for name in (missing["id"], longer["id"], conversation, orphan, young)}
    was = {name: s3.get_object(Bucket=SHARES, Key=key[name])["Body"].read() for name in (missing["id"], longer["id"], conversation)}
    assert {len(body) for body in was.values()} == {33}
    for name in (missing["id"], conversation):
        s3.delete_object(Bucket=SHARES, Key=key[name])
    for name, body in ((longer["id"], b"x" * 40), (orphan, b"y" * 33), (young, b"z" * 33)):
        s3.put_object(Bucket=SHARES, Key=key[name], Body=body)
    found = compare_now(stack, "shares")
    assert set(found) == set(before) | {missing["id"], longer["id"], conversation, orphan}
    assert [found[name][0] for name in (missing["id"], conversation, longer["id"], orphan)] == ["missing", "missing", "size", "orphan"]
    assert found[longer["id"]][3:5] == (33, 40)
    told = wait_for("its events", lambda: len(rows := events(stack, "store.difference", since)) == 4 and rows, 30)
    assert {row[1]["detail"]["store"] for row in told} == {"shares"} and all("document_ids" not in row[1] or row[1]["document_ids"] == [] for row in told)
    for name, body in was.items():
        s3.put_object(Bucket=SHARES, Key=key[name], Body=body)
    still = compare_now(stack, "shares")
    assert set(still) == set(before) | {orphan}, "what was mended is no difference any more, and nothing was deleted"
    for name in (orphan, young):
        s3.delete_object(Bucket=SHARES, Key=key[name])
    assert compare_now(stack, "shares") == before
    assert stack.call("GET", f"/api/v1/documents/{missing['id']}/content").status_code == 200
