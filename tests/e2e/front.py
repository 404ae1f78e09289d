"""Ways to the front door that no HTTP library offers: bytes as they are, an edge of one's own settings, TLS in front."""
import contextlib
import os
import re
import socket
import ssl
import subprocess
import time

import requests

from conftest import ROOT, STATE, wait_for


def free_ports(count):
    """Ports in which nobody listens now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class Edge:
    def __init__(self, port, metrics, process):
        self.port, self.metrics_port, self.process = port, metrics, process
        self.url = f"http://127.0.0.1:{port}"

    def metrics(self):
        return requests.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10).text


@contextlib.contextmanager
def running(command, ready, **how):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how)
    try:
        wait_for(f"{command[0]} serves", lambda: process.poll() is None and ready(), 20)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def environment(process, **settings):
    """A process's own, as the supervisor gives it, with other settings."""
    own = {file.name: file.read_text().rstrip("\n") for file in (STATE / "secrets" / process).iterdir()}
    return {**own, "PATH": os.environ["PATH"], **settings}


@contextlib.contextmanager
def another_edge(stack, **settings):
    """One more replica of the stack's edge, with other settings."""
    port, metrics = free_ports(2)
    env = environment("edge", PORT=str(port), CORDON_METRICS_LISTEN=f"127.0.0.1:{metrics}", **settings)
    ready = lambda: requests.get(f"http://127.0.0.1:{port}/api/v1/health/ready", timeout=5).status_code == 200
    with running([str(STATE / "bin" / "cordon-edge")], ready, env=env) as process:
        yield Edge(port, metrics, process)


@contextlib.contextmanager
def another_auth(stack, **settings):
    """One more replica of auth, which only those call who are told: (its endpoint, its process)."""
    port, metrics = free_ports(2)
    env = environment("auth", CORDON_BUS_LISTEN=f"tcp://127.0.0.1:{port}", CORDON_METRICS_LISTEN=f"127.0.0.1:{metrics}", **settings)
    ready = lambda: requests.get(f"http://127.0.0.1:{metrics}/health/ready", timeout=5).status_code == 200
    with running([str(STATE / "bin" / "cordon-auth")], ready, env=env) as process:
        yield f"tcp://127.0.0.1:{port}", process


class Tls:
    def __init__(self, port, state, certificate):
        self.port, self.state_port, self.certificate = port, state, certificate
        self.url = f"https://localhost:{port}"


@contextlib.contextmanager
def tls_in_front(edge_port, folder):
    """dev/haproxy/haproxy.cfg before an edge, with a certificate of its own."""
    port, state = free_ports(2)
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    both.write_text(certificate.read_text() + key.read_text())
    env = {"PATH": os.environ["PATH"], "CORDON_TLS_BIND": f"127.0.0.1:{port}", "CORDON_TLS_PEM": str(both), "CORDON_TLS_DNS": "127.0.0.1:53",
           "CORDON_EDGE": f"127.0.0.1:{edge_port}", "CORDON_TLS_STATE": f"127.0.0.1:{state}"}
    ready = lambda: requests.get(f"https://localhost:{port}/api/v1/health/live", timeout=5, verify=str(certificate)).status_code == 200
    with running(["haproxy", "-db", "-f", str(ROOT / "dev" / "haproxy" / "haproxy.cfg")], ready, env=env):
        yield Tls(port, state, str(certificate))


STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")


def exchange(port, data, certificate=None, patience=1.0, closes=True):
    """Send bytes, then read until the other side closes, or says nothing for `patience` after it has answered."""
    sock = socket.create_connection(("127.0.0.1", port), 10)
    if certificate:
        context = ssl.create_default_context(cafile=certificate)
        context.set_alpn_protocols(["http/1.1"])
        sock = context.wrap_socket(sock, server_hostname="localhost")
    out = b""
    with sock:
        try:
            sock.sendall(data)
            if closes and not certificate:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass                # refused before all of it was read
        sock.settimeout(patience)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            try:
                part = sock.recv(65536)
            except TimeoutError:
                if out:
                    break
                continue
            except OSError:
                break
            if not part:
                break
            out += part
    return out


def statuses(answer):
    """Of all answers in these bytes but 100 Continue."""
    return [int(s) for s in STATUS.findall(answer) if s != b"100"]
