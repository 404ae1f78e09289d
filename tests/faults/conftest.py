"""Faults: a stack of the binaries whose fault points obey files (common/core/fault.h), and clients that keep their own
record of what they wanted and what they were told. Nothing of Cordon is imported; root's rights are needed to kill."""
import importlib.util
import os
import pathlib
import random
import shutil
import sys

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("CORDON_E2E_HOME", str(ROOT / ".cordon" / "faults"))
sys.path.append(str(ROOT / "tests" / "e2e"))      # what its conftest imports
spec = importlib.util.spec_from_file_location("e2e", ROOT / "tests" / "e2e" / "conftest.py")
e2e = importlib.util.module_from_spec(spec)
sys.modules["e2e"] = e2e
spec.loader.exec_module(e2e)

REPLICAS = "ingest-worker=2,audit-writer=2"
LEASE_MS = 2000     # of jobs and uploads: shorter than the product's, so that a worker that is stopped outlives it soon
import history  # noqa: E402, they use e2e
import killer  # noqa: E402
from detours import broken, detoured  # noqa: E402, F401 (fixtures)

IS_LONG = bool(os.environ.get("CORDON_TEST_LONG"))


@pytest.fixture(scope="session")
def stack():
    """A stack with two tenants, fault points, short leases, and two replicas of those who take work from each other."""
    faults = e2e.STATE.with_name(f"{e2e.STATE.name}-armed")
    shutil.rmtree(faults, ignore_errors=True)
    with e2e.running_stack("--replicas", REPLICAS, CORDON_FAULT_DIR=str(faults)) as running:
        running.faults = faults
        for instance in killer.instances(running, "ingest-worker"):
            for name in ("CORDON_LEASE_MS", "CORDON_UPLOAD_LEASE_MS"):
                (pathlib.Path(running.info["processes"][instance]["secrets"]) / name).write_text(f"{LEASE_MS}\n")
            running.cordon("restart", instance)
        requests.post(f"http://127.0.0.1:{running.info['port_base'] + 3}/_control", json={"words_only": True}, timeout=10).raise_for_status()
        e2e.wait_for("ready", running.is_ready)
        yield running


@pytest.fixture(scope="session")
def keeper(stack):
    """One history for all tests of a stack: the checker compares all that happened to it. Kept for people who look."""
    kept = history.History(e2e.STATE / "history.jsonl")
    yield kept
    kept.close()


@pytest.fixture(scope="session")
def hand(stack):
    """Whoever ends or stops a process of this stack tells it; else the checker takes what follows for a defect."""
    return killer.Killer(stack)


@pytest.fixture
def seed():
    """CORDON_TEST_SEED, or another one each time; printed, so that a failure can be tried again."""
    value = int(os.environ.get("CORDON_TEST_SEED", random.randrange(1 << 32)))
    print(f"seed {value}: CORDON_TEST_SEED={value}")
    return value
