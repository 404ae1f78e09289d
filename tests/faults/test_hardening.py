"""What a process that was taken over would try, tried by each real process from inside one of its handlers (program/trials.c):
none of it works, and what only an attacker would try ends the process."""
import pathlib
import time

import e2e
import player
import pytest

# Where each process comes by when clients do something.
POINTS = {"edge": "edge.admitted", "auth": "auth.before_mint", "ingest-worker": "job.before_claim",
          "embedding-worker": "model.before_embed", "query": "query.embedded", "audit-writer": "audit.before_commit"}
REFUSED = ["read-home", "read-temporary", "read-neighbours-memory", "read-neighbours-environment", "read-own-memory", "write-file",
           "signal-neighbour", "listen-elsewhere", "raw-socket", "become-root", "become-dumpable"]
OF_CODE = ["fork", "load-library", "map-code"]      # ingest-worker starts a program that does these
DEADLY = ["trace", "read-process", "new-namespace", "dump"]
REACHED_S = 60


def arm(stack, process, trials):
    point = POINTS[process]
    for old in stack.faults.glob(f"{point}.tried.*"):
        old.unlink()
    new = stack.faults / f".{point}@cordon-{process}"
    new.write_text(f"try {','.join(trials)}\n")
    new.chmod(0o666)
    new.rename(stack.faults / f"{point}@cordon-{process}")


def told(stack, process):
    """The lines of the process that tried, once it is through or gone."""
    for mark in stack.faults.glob(f"{POINTS[process]}.tried.*"):
        lines = mark.read_text().splitlines()
        if lines and (lines[-1] == "end" or not pathlib.Path(f"/proc/{mark.suffix[1:]}").exists()):
            return lines
    return None


def try_everywhere(stack, hand, trials_of):
    """{process: lines}. Whoever did not live through it was interrupted, as by any other kill."""
    began = time.time()
    for process, trials in trials_of.items():
        arm(stack, process, trials)
    lines = {process: e2e.wait_for(f"{process} tried", lambda process=process: told(stack, process), REACHED_S) for process in trials_of}
    e2e.wait_for("ready", stack.is_ready, 60)
    for process, said in lines.items():
        if said[-1] != "end":
            hand.remember(process, "ended by a trial", began)
    return lines


@pytest.fixture(scope="module")
def clients(stack, keeper):
    with player.Player(stack, keeper, 7, {"upload": 2, "search": 2, "tenants": 1}) as playing:
        yield playing


def test_what_is_not_in_the_table_fails_and_the_process_goes_on(stack, hand, clients):
    trials = {process: REFUSED + OF_CODE * (process != "ingest-worker") for process in POINTS}
    for process, lines in try_everywhere(stack, hand, trials).items():
        refused = [line.split(" refused: ")[0] for line in lines if " refused: E" in line]
        assert refused == trials[process], (process, lines)
        assert lines[-1] == "end"
    assert not pathlib.Path("/tmp/cordon-escape").exists()


@pytest.mark.parametrize("trial", [*DEADLY, "shell"])
def test_what_only_an_attacker_would_try_ends_the_process(stack, hand, clients, trial):
    for process, lines in try_everywhere(stack, hand, {process: [trial] for process in POINTS}).items():
        if (process, trial) == ("ingest-worker", "shell"):
            assert lines == ["shell begun", "shell refused: EACCES", "end"], "it may execute its extractor, and nothing else"
        else:
            assert lines == [f"{trial} begun"], (process, lines)
    assert not [p for p in pathlib.Path(stack.info["state"]).rglob("core*") if p.is_file() and p.stat().st_size > 1 << 20]
