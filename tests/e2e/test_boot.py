"""A process that would hold more than its duty needs refuses to start; the others hold no connection that they should not."""
import os
import re
import subprocess

import pytest

from conftest import PROCESSES, ROOT, STATE

BINARIES = ROOT / ".cordon" / "build" / "release" / "services"
DATABASE_SETTING = {"auth": "DATABASE_URL", "ingest-worker": "DATABASE_URL", "query": "DATABASE_URL", "audit-writer": "DATABASE_URL"}


def start(process, stack, **changed):
    """Run the binary by hand with its own settings, some of them changed; it must end by itself."""
    env = {p.name: p.read_text().rstrip("\n") for p in (STATE / "secrets" / process).iterdir() if p.is_file()}
    env.update({"CORDON_METRICS_LISTEN": "", "PATH": os.environ["PATH"], **changed})
    if "CORDON_BUS_LISTEN" in env:
        env["CORDON_BUS_LISTEN"] = "tcp://127.0.0.1:*"
    return subprocess.run([str(BINARIES / process / f"cordon-{process}")], env=env, capture_output=True, text=True, timeout=60)


def with_user(url, user, password=None):
    return re.sub(r"//[^@]*@", f"//{user}{':' + password if password else ''}@", url)


@pytest.mark.parametrize("process", sorted(DATABASE_SETTING))
def test_a_superuser_s_url_is_refused(stack, process):
    done = start(process, stack, **{DATABASE_SETTING[process]: stack.info["postgres"]["admin_url"]})
    assert done.returncode == 1
    assert "superuser" in done.stderr.lower(), done.stderr


@pytest.mark.parametrize("process, other", [("query", "ingest-worker"), ("ingest-worker", "query"), ("audit-writer", "auth"), ("auth", "audit-writer")])
def test_another_process_s_role_is_refused(stack, process, other):
    done = start(process, stack, DATABASE_URL=stack.secret(other, "DATABASE_URL"))
    assert done.returncode == 1, done.stderr
    assert "postgres" not in done.stderr or "password" not in done.stderr


def test_a_role_that_gained_a_grant_is_refused(stack):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("GRANT SELECT ON keys.document_keys TO cordon_query")
        try:
            done = start("query", stack)
            assert done.returncode == 1
            assert "document_keys" in done.stderr, done.stderr
        finally:
            cursor.execute("REVOKE SELECT ON keys.document_keys FROM cordon_query")


def test_a_role_with_settings_of_its_own_is_refused(stack):
    with stack.database() as db, db.cursor() as cursor:
        cursor.execute("ALTER ROLE cordon_query SET row_security = off")
        try:
            done = start("query", stack)
            assert done.returncode == 1, done.stderr
        finally:
            cursor.execute("ALTER ROLE cordon_query RESET row_security")


def test_production_wants_verified_tls_to_the_database_and_to_aws(stack):
    for process in ("query", "ingest-worker", "auth", "audit-writer"):
        six_years = {"CORDON_ANCHOR_DAYS": "2557"} if process == "audit-writer" else {}     # or it says that first
        done = start(process, stack, ENVIRONMENT="production", **six_years)
        assert done.returncode == 1, (process, done.stderr)
        assert "verify-full" in done.stderr or "https" in done.stderr, (process, done.stderr)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_missing_setting_is_named_and_no_secret_is_printed(stack, process):
    done = start(process, stack, CORDON_CURVE_SECRET_KEY="")
    assert done.returncode == 1
    assert "CORDON_CURVE_SECRET_KEY" in done.stderr
    for name in (STATE / "secrets" / process).iterdir():
        if "SECRET" in name.name or name.name.endswith("DATABASE_URL"):
            value = name.read_text().strip()
            assert not value or value not in done.stderr + done.stdout


@pytest.mark.parametrize("process", PROCESSES)
def test_help_needs_no_settings_and_names_each(process):
    done = subprocess.run([str(BINARIES / process / f"cordon-{process}"), "--help"], env={}, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert "CORDON_CURVE_SECRET_KEY" in done.stdout and "ENVIRONMENT" in done.stdout


def connections_of(pid):
    """Remote ports of the process's established TCP connections."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in open(f"/proc/{pid}/net/{table}").read().splitlines()[1:]:
            field = line.split()
            if field[9] in inodes and field[3] == "01":
                ports.add(int(field[2].split(":")[1], 16))
    return ports


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another user's descriptors needs root")
def test_only_those_with_a_database_role_or_an_aws_identity_have_such_a_connection(stack):
    base = stack.info["port_base"]
    stack.call("GET", "/api/v1/documents")
    assert base not in connections_of(stack.pid("edge"))
    assert base + 1 not in connections_of(stack.pid("edge"))
    assert base not in connections_of(stack.pid("embedding-worker"))
    assert base in connections_of(stack.pid("query")), "the search itself must be able to find something"


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another user's descriptors needs root")
def test_the_edge_has_no_file_open_but_its_log_and_the_system_s(stack):
    own = f"/proc/{stack.pid('edge')}"
    for fd in os.listdir(f"{own}/fd"):
        target = os.readlink(f"{own}/fd/{fd}")
        assert target.startswith(("socket:", "pipe:", "anon_inode:", "/dev/null", "/dev/urandom")) or target in (f"{own}/statm", f"{own}/fd"), target
