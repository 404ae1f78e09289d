"""Health and metrics: what an operator and a platform ask."""
import pathlib
import re

import pytest
import requests

from conftest import PROCESSES, wait_for


def metrics_of(stack, process):
    answer = requests.get(stack.info["processes"][process]["metrics"].removesuffix("/metrics") + "/metrics", timeout=10)
    assert answer.status_code == 200
    return answer.text


def value_of(text, name, **labels):
    """The sample of that name whose labels include these; None when there is none."""
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if match and match[1] == name and all(f'{k}="{v}"' in (match[2] or "") for k, v in labels.items()):
            return float(match[3])
    return None


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_answers_prometheus_on_a_listener_of_its_own(stack, process):
    text = metrics_of(stack, process)
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(r'[a-z_:][a-z0-9_:]*(\{.*\})? [-+0-9.eEInfNa]+', line), line
    assert "# TYPE " in text
    assert "cordon_build_info" in text


def test_queue_depth_and_oldest_age_are_told(stack):
    text = metrics_of(stack, "ingest-worker")
    for state in ("queued", "running", "dead"):
        assert value_of(text, "cordon_jobs", queue="ingest", state=state) is not None
        assert value_of(text, "cordon_jobs_oldest_age_seconds", queue="ingest", state=state) is not None


def test_a_request_is_counted_by_route_and_status_and_never_by_its_path(stack):
    document = stack.ingest(b"Counted: pulse 72, regular.")
    stack.call("GET", f"/api/v1/documents/{document['id']}")
    text = metrics_of(stack, "edge")
    assert document["id"] not in text
    assert "/api/v1/documents/{document_id}" in text


def test_live_needs_nobody_and_ready_needs_everybody(stack):
    assert requests.get(stack.url + "/api/v1/health/live", timeout=5).status_code == 200
    assert stack.is_ready()
    stack.stop("query")
    try:
        wait_for("not ready", lambda: not stack.is_ready(), 15)
        assert requests.get(stack.url + "/api/v1/health/live", timeout=5).status_code == 200
        health = requests.get(stack.url + "/api/v1/health", timeout=5).json()
        assert [p for p in health["peers"] if p["name"] == "query"][0]["is_up"] is False
        refused = stack.call("POST", "/api/v1/search", json={"question": "pulse?"})
        assert refused.status_code == 503 and "Retry-After" in refused.headers
    finally:
        stack.start("query")
    assert stack.call("POST", "/api/v1/search", json={"question": "pulse?"}).status_code == 200


@pytest.mark.parametrize("process", PROCESSES)
def test_each_process_says_by_name_what_it_checks(stack, process):
    listener = stack.info["processes"][process]["metrics"].removesuffix("/metrics")
    assert requests.get(listener + "/health/live", timeout=10).status_code == 200
    ready = requests.get(listener + "/health/ready", timeout=10)
    assert ready.status_code == 200, ready.text
    if process in ("query", "ingest-worker", "auth", "audit-writer"):
        assert "database" in ready.text


@pytest.mark.parametrize("process", PROCESSES)
def test_each_process_says_what_it_gave_up_and_the_kernel_agrees(stack, process):
    ready = requests.get(stack.info["processes"][process]["metrics"].removesuffix("/metrics") + "/health/ready", timeout=10).json()
    steps = {name.removeprefix("hardening:"): text for name, text in ready["checks"].items() if name.startswith("hardening:")}
    landlock = steps.pop("landlock")
    assert steps == dict.fromkeys(["no_new_privs", "capabilities", "no_core_dumps", "locked_memory", "environment", "system_calls"], "ok")
    assert landlock.startswith("ok, version") or landlock == "the kernel offers no Landlock"
    proc = pathlib.Path(f"/proc/{stack.pid(process)}")
    threads = list(proc.glob("task/*"))
    assert len(threads) > 3
    for thread in threads:
        status = dict(re.findall(r"^(\w+):\s*(.*)$", (thread / "status").read_text(), re.M))
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), thread
        assert {int(status[f"Cap{of}"], 16) for of in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}, thread
    assert re.search(r"Max core file size\s+0\s+0", (proc / "limits").read_text())
    assert proc.stat().st_uid != 0 and (proc / "mem").stat().st_uid == 0, "not dumpable: root's, whoever it runs as"
    left = {variable.split(b"=")[0] for variable in (proc / "environ").read_bytes().split(b"\0") if variable}
    assert left <= {b"PATH", b"LANG", b"TZ"}, left
