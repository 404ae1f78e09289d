"""Every fault point of faults.def, in each of its processes: killed there, failed there where the code can fail, and with
--long stopped there past the lease. Clients play all the time; afterwards every promise is kept."""
import re
import subprocess
import threading
import time

import e2e
import killer
import player
import pytest
import verdict
from conftest import IS_LONG, LEASE_MS, ROOT

RATES = {"upload": 2, "search": 1, "question": 1, "download": 1, "delete": 0.7, "tenant": 0.5, "tenants": 0.5}
ELSEWHERE = ("erasure", "evidence", "rewrap", "rotation", "archive", "promote", "reembed", "ending", "offboard")   # test_{erasure,years,vector,tenant}_points.py
REACHED_S = 60      # until clients, whom the other faults disturb as well, come by


def points():
    """[(point, process, can it fail)]"""
    table = (ROOT / "common" / "core" / "faults.def").read_text()
    code = subprocess.run(["grep", "-rhoE", r"fault_status\(FAULT_[A-Z0-9_]+", "common", "services", "--include=*.c"],
                          cwd=ROOT, capture_output=True, text=True, check=True).stdout
    failing = set(re.findall(r"FAULT_[A-Z0-9_]+", code))
    return [(name, process, id in failing)
            for id, name, processes in re.findall(r'^FAULT\((\w+),\s*"([^"]+)",\s*"([^"]+)"', table, re.M) for process in processes.split()]


def arm(stack, point, process, order):
    """The name of the mark that it leaves begins with this."""
    name = f"{point}@cordon-{process}"
    new = stack.faults / f".{name}"
    new.write_text(order + "\n")
    new.chmod(0o666)
    new.rename(stack.faults / name)
    return name


def fired(stack, name):
    return [int(mark.suffix[1:]) for mark in stack.faults.glob(f"{name}.fired.*")]


def strike(stack, hand, clients, point, process, order):
    """Arm, wait until somebody came by, and see the process back. None, or what did not happen."""
    began = time.time()
    name = arm(stack, point, process, order)
    try:
        if point == "ingest.before_failure":
            clients.upload(is_bad=True)         # of themselves they upload one in 25
        pid = e2e.wait_for(f"{name} reached", lambda: fired(stack, name), REACHED_S)[0]
        if order == "kill":
            e2e.wait_for(f"{process} back", lambda: hand.are_back(process, pid), 60)
        if order == "stop":
            time.sleep((LEASE_MS + 500) / 1000)
            killer.send(pid, killer.signal.SIGCONT)
    except AssertionError as error:
        return f"{order}: {error}"
    finally:
        (stack.faults / name).unlink(missing_ok=True)
    hand.remember(process, f"{order} at a point", began)
    for mark in stack.faults.glob(f"{name}.fired.*"):
        mark.rename(stack.faults / f"done.{order}.{mark.name}")
    return None


def test_the_list_names_the_six_processes_and_the_operators_program_and_every_one_of_them():
    assert {process for _, process, _ in points()} == {*e2e.PROCESSES, "offboard"}


def test_a_fault_anywhere_loses_and_doubles_nothing(stack, seed, keeper, hand):
    missed, orders = [], 0

    def walk(process):
        nonlocal orders
        for point, owner, can_fail in points():
            for order in ["kill"] + ["fail"] * can_fail + ["stop"] * IS_LONG:
                if owner == process and point.split(".")[0] not in ELSEWHERE:
                    trouble = strike(stack, hand, clients, point, process, order)
                    orders += 1
                    missed.extend([trouble] if trouble else [])

    began = time.monotonic()
    with player.Player(stack, keeper, seed, RATES) as clients:
        walkers = [threading.Thread(target=walk, args=(process,)) for process in e2e.PROCESSES]
        for walker in walkers:
            walker.start()
        for walker in walkers:
            walker.join()
    report = verdict.reach(stack, keeper, hand, clients)
    print(seed, orders, "orders", round(time.monotonic() - began), "s", report)
    assert not missed, missed
    assert not report["violations"], "\n".join([f"seed {seed}", *report["violations"][:20]])


@pytest.mark.parametrize("text, passes, failed", [("fail", 3, 1), ("fail after 2", 3, 1), ("fail after 3", 3, 0), ("delay 1", 3, 0), ("", 3, 0)])
def test_an_order_is_obeyed_once_and_leaves_a_mark(stack, tmp_path, text, passes, failed):
    probe = ROOT / ".cordon" / "build" / "release" / "faults" / "fault_probe"
    point = points()[0][0]
    if text:
        (tmp_path / point).write_text(text)
    done = subprocess.run([probe, str(passes)], env={"CORDON_FAULT_DIR": str(tmp_path)}, capture_output=True, text=True)
    marks = list(tmp_path.glob(f"{point}.fired.*"))
    assert (int(done.stdout), len(marks)) == (failed, int(bool(text) and "after 3" not in text))


def test_an_order_fires_once_over_all_processes(stack, tmp_path):
    probe, point = ROOT / ".cordon" / "build" / "release" / "faults" / "fault_probe", points()[0][0]
    (tmp_path / point).write_text("fail")
    crowd = [subprocess.Popen([probe, "1000"], env={"CORDON_FAULT_DIR": str(tmp_path)}, stdout=subprocess.PIPE) for _ in range(8)]
    assert sum(int(p.communicate()[0]) for p in crowd) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_kill_at_a_point_is_a_sigkill_of_that_process(stack, tmp_path):
    probe, point = ROOT / ".cordon" / "build" / "release" / "faults" / "fault_probe", points()[0][0]
    (tmp_path / f"{point}@fault_probe").write_text("kill")
    assert subprocess.run([probe, "1"], env={"CORDON_FAULT_DIR": str(tmp_path)}).returncode == -9
