"""A stack of its own whose database, AWS services and bus links are reached through the fault proxy (proxy.py), and
whose AWS stand-in fails when told (dev/cloud/faults.py)."""
import contextlib
import importlib.util
import json
import os
import pathlib
import time
import urllib.request

import pytest

from proxy import Proxy
from pulse import Pulse

ROOT = pathlib.Path(__file__).resolve().parents[2]
IS_LONG = bool(os.environ.get("CORDON_TEST_LONG"))
BUS = {"auth": 10, "ingest-worker": 11, "embedding-worker": 12, "query": 13, "audit-writer": 14}     # dev/lib/instance.sh
AWS = ("s3", "kms", "sts", "bedrock_runtime")


def load_e2e(home=None):
    """tests/e2e/conftest.py once more, for a stack in a folder of its own."""
    given = os.environ.get("CORDON_E2E_HOME")
    os.environ["CORDON_E2E_HOME"] = str(home or os.environ.get("CORDON_DETOURS_HOME", ROOT / ".cordon" / "detours"))
    try:
        spec = importlib.util.spec_from_file_location("e2e_of_detours", ROOT / "tests" / "e2e" / "conftest.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        if given is None:
            del os.environ["CORDON_E2E_HOME"]
        else:
            os.environ["CORDON_E2E_HOME"] = given
    return module


@contextlib.contextmanager
def detoured_stack(links=None, home=None):
    """links: which ways lead through the proxy; without it all."""
    e2e = load_e2e(home)
    base = e2e.free_base()
    targets = {"postgres": base, **{name: base + 1 for name in AWS}, **{name: base + n for name, n in BUS.items()}}
    targets = {name: port for name, port in targets.items() if links is None or name in links}
    proxy = Proxy({name: (0, port) for name, port in targets.items()})
    try:
        detours = " ".join(f"{name}:{link['port']}" for name, link in proxy.command().items())
        with e2e.running_stack(base=base, CORDON_TEST_DETOURS=detours) as stack, Pulse(stack) as stack.pulse:
            stack.proxy, stack.base, stack.wait_for = proxy, base, e2e.wait_for
            yield stack
    finally:
        proxy.stop()


@pytest.fixture(scope="session")
def detoured():
    with detoured_stack() as stack:
        yield stack


def deaths(stack):
    """How often each process has ended, as its supervisor wrote it down."""
    files = {name: pathlib.Path(process["service_dir"]) / "deaths" for name, process in stack.info["processes"].items()}
    return {name: len(file.read_text().splitlines()) if file.exists() else 0 for name, file in files.items()}


@pytest.fixture
def broken(detoured):
    """The stack, whole again afterwards, and none of its processes has ended."""
    before = deaths(detoured)
    yield detoured
    aws_fails(detoured)
    detoured.proxy.clear()
    detoured.wait_for("ready again", detoured.is_ready, 30)
    assert deaths(detoured) == before, "a process has ended"


def aws_fails(stack, *rules, **switches):
    """Instead of all that was set before."""
    request = urllib.request.Request(f"{stack.info['cloud']['url']}/_control", json.dumps({"rules": rules, **switches}).encode(), method="POST")
    return json.loads(urllib.request.urlopen(request, timeout=10).read())


def struck(stack):
    """How many calls have met the faults that are set."""
    with urllib.request.urlopen(f"{stack.info['cloud']['url']}/_control", timeout=10) as answer:
        return sum(rule["struck"] for rule in json.loads(answer.read())["rules"])


def outcome(answer):
    """(status, code) of an answer; what is to be tried again must say when."""
    if answer.status_code < 400:
        return answer.status_code, None
    assert answer.status_code not in (429, 503) or "Retry-After" in answer.headers, answer.text
    return answer.status_code, answer.json()["code"]


def seconds_until(stack, what, probe, seconds=30):
    began = time.monotonic()
    stack.wait_for(what, probe, seconds)
    return time.monotonic() - began


MOST_S = 15         # until service is back, even of a machine that stands still


def recovers(stack, what, probe, within_s):
    """Its seconds are noted; those in which the machine stood still are not held against it, but where nothing else runs."""
    began = time.time()
    seconds = seconds_until(stack, f"service is back: {what}", probe)
    note_recovery(what, seconds)
    stalled = 0 if IS_LONG else stack.pulse.stalled(began, time.time())
    assert seconds - stalled < within_s and seconds < MOST_S, (what, seconds, stalled)


RECOVERIES = []


def note_recovery(what, seconds):
    """Figures for docs/BENCHMARKS.md: one JSON object a line, into $CORDON_FAULTS_FIGURES when that is set."""
    RECOVERIES.append((what, seconds))
    path = os.environ.get("CORDON_FAULTS_FIGURES")
    if path:
        with open(path, "a") as file:
            file.write(json.dumps({"what": what, "recovery_s": round(seconds, 2)}) + "\n")
