"""Beyond the cells of role x route (test_identity.py): what nobody may do, whoever asks, from the edge's own table."""
import re
import subprocess
import uuid

from conftest import STATE, wait_for
from test_identity import ROLES, sql

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def table():
    """[(method, path, scope)], as the running edge's binary prints it."""
    text = subprocess.run([STATE / "bin" / "cordon-edge", "--endpoints-markdown"], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^\| `([A-Z]+) (\S+)` \| `?([a-z:]+)`? \|", text, re.M)
    assert len(rows) > 50
    return rows


def filled(path):
    return re.sub(r"\{[a-z_*]+\}", "0", re.sub(r"\{[a-z_]+_id\}", str(uuid.uuid4()), path))


def test_every_method_that_no_row_has_is_refused_to_everybody(stack):
    rows = table()
    tokens = [""] + [stack.token(None if role == "platform_admin" else "demo", role, f"matrix-{role}") for role in ROLES]
    fits = [(method, re.compile(re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.sub(r"\\\{[a-z_]+\\\*\\\}", ".+", re.escape(path))))) for method, path, _ in rows]
    cells = 0
    for path in sorted({path for _, path, _ in rows}):
        at = filled(path)
        known = {method for method, template in fits if template.fullmatch(at)}
        for n, method in enumerate(m for m in METHODS if m not in known):
            for token in (tokens if path == "/api/v1/documents" else ["", tokens[1 + n % len(ROLES)]]):
                answer = stack.call(method, at, token=token)
                assert answer.status_code == 405, (method, at, answer.status_code, answer.text)
                cells += 1
    assert cells > 200


def test_who_shows_nothing_gets_in_nowhere_and_is_on_record(stack):
    count = "SELECT count(*) FROM audit.audit_logs WHERE action = 'auth.denied'"
    before, asked = sql(stack, count)[0][0], 0
    for method, path, scope in table():
        if scope == "open":
            continue
        for token in ("", "x"):
            answer = stack.call(method, filled(path), token=token, headers={"Content-Type": "application/json"})
            assert answer.status_code == 401 or "/auth/" in path and answer.status_code in (400, 403), (method, path, answer.text)
            asked += answer.status_code == 401
    assert asked > 80
    wait_for("refusals on record", lambda: sql(stack, count)[0][0] >= before + asked, 30)


def test_paths_that_no_row_has_do_not_exist(stack):
    for path in ("/", "/api", "/api/v1", "/api/v1/", "/api/v2/documents", "/api/v1/documents/", "/api/v1/admin", "/api/v1/tenants/x/y/z", "/metrics", "/.env"):
        for token in ("", stack.token("demo", "admin")):
            assert stack.call("GET", path, token=token).status_code == 404, path
