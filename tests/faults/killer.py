"""Ends and stops processes of a stack, and remembers when each was not well."""
import os
import pathlib
import signal
import subprocess
import time

import requests

import e2e

METRICS = {"edge": 20, "auth": 21, "ingest-worker": 22, "embedding-worker": 23, "query": 24, "audit-writer": 25}


def send(pid, signal_number):
    if os.geteuid() == 0:
        os.kill(pid, signal_number)
    else:
        subprocess.run(["sudo", "-n", "kill", f"-{int(signal_number)}", str(pid)], check=True)


def pids_of(process):
    """Of this instance's own binaries."""
    binary, found = str(e2e.STATE.resolve() / "bin" / f"cordon-{process}"), []
    for proc in pathlib.Path("/proc").iterdir():
        if not proc.name.isdigit():
            continue
        try:
            if os.readlink(proc / "exe").removesuffix(" (deleted)") == binary:
                found.append(int(proc.name))
        except OSError:
            pass
    return sorted(found)


def metrics(stack, process, port=None):
    """What the process exports: {name with labels: value}; {} when it does not answer."""
    try:
        text = requests.get(f"http://127.0.0.1:{port or stack.info['port_base'] + METRICS[process]}/metrics", timeout=2).text
    except requests.RequestException:
        return {}
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line and line[0] != "#"}


class Killer:
    SETTLED_S = 2.0     # after a process is back, what was under way may still be found out

    def __init__(self, stack):
        self.stack, self.interruptions, self.counts = stack, [], {}

    def remember(self, process, how, began):
        self.interruptions.append((began, time.time() + self.SETTLED_S))
        self.counts[process, how] = self.counts.get((process, how), 0) + 1

    def is_back(self, process, but):
        return any(pid not in but for pid in pids_of(process)) and bool(metrics(self.stack, process))

    def kill(self, process, awaits=True):
        began, pids = time.time(), pids_of(process)
        if not pids:
            return []
        for pid in pids[:1]:
            send(pid, signal.SIGKILL)
        if awaits:
            e2e.wait_for(f"{process} back", lambda: self.is_back(process, pids), 60)
        self.remember(process, "kill", began)
        return pids[:1]

    def stop(self, process, seconds):
        """SIGSTOP, and SIGCONT after so many seconds."""
        began, pids = time.time(), pids_of(process)
        for pid in pids[:1]:
            send(pid, signal.SIGSTOP)
            time.sleep(seconds)
            send(pid, signal.SIGCONT)
        self.remember(process, "stop", began)
