"""Ends and stops processes of a stack, and remembers when each was not well."""
import contextlib
import os
import signal
import subprocess
import time

import requests

import e2e

def send(pid, signal_number):
    """Somebody else may have been faster."""
    if os.geteuid():
        subprocess.run(["sudo", "-n", "kill", f"-{int(signal_number)}", str(pid)], capture_output=True)
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def instances(stack, process=None):
    """Names of all processes, replicas among them (query.2), or of those of one."""
    return [name for name in stack.info["processes"] if process in (None, name.partition(".")[0])]


def pid_of(stack, instance):
    """By its supervisor; 0: it is just being started."""
    command = ["s6-svstat", "-o", "pid", stack.info["processes"][instance]["service_dir"]]
    said = subprocess.run(["sudo", "-n", *command] if os.geteuid() else command, capture_output=True, text=True).stdout.strip()
    return max(0, int(said or 0))


def metrics(stack, instance):
    """What the process exports: {name with labels: value}; {} when it does not answer."""
    try:
        text = requests.get(stack.info["processes"][instance]["metrics"] + "/metrics", timeout=2).text
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

    def is_back(self, instance, dead=0):
        return pid_of(self.stack, instance) not in (0, dead) and bool(metrics(self.stack, instance))

    def are_back(self, process, dead=0):
        return all(self.is_back(instance, dead) for instance in instances(self.stack, process))

    def kill(self, instance, awaits=True):
        """False: there is nothing to kill yet."""
        began, pid = time.time(), pid_of(self.stack, instance)
        if not pid:
            return False
        send(pid, signal.SIGKILL)
        if awaits:
            e2e.wait_for(f"{instance} back", lambda: self.is_back(instance, pid), 60)
        self.remember(instance, "kill", began)
        return True

    def stop(self, instance, seconds):
        """SIGSTOP, and SIGCONT after so many seconds."""
        began, pid = time.time(), pid_of(self.stack, instance)
        if not pid:
            return False
        send(pid, signal.SIGSTOP)
        time.sleep(seconds)
        send(pid, signal.SIGCONT)
        self.remember(instance, "stop", began)
        return True
