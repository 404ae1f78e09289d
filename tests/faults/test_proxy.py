"""The fault proxy does what it says: a broken tool would prove nothing."""
import socket
import threading
import time

import pytest

from proxy import Proxy


class Echo:
    """Answers every byte with itself, and ends when the client has ended."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.echo, args=(connection,), daemon=True).start()

    @staticmethod
    def echo(connection):
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture
def proxy():
    echo = Echo()
    proxy = Proxy({"echo": (0, echo.port)})
    yield proxy
    proxy.stop()
    echo.listener.close()


def connect(proxy):
    connection = socket.create_connection(("127.0.0.1", proxy.port("echo")), timeout=5)
    return connection


def read(connection, n):
    data = b""
    while len(data) < n:
        portion = connection.recv(n - len(data))
        if not portion:
            break
        data += portion
    return data


def ask(connection, text=b"hello"):
    connection.sendall(text)
    return read(connection, len(text))


def test_without_rules_every_byte_passes_both_ways_and_an_end_passes_too(proxy):
    body = bytes(range(256)) * 4096
    with connect(proxy) as connection:
        threading.Thread(target=lambda: (connection.sendall(body), connection.shutdown(socket.SHUT_WR))).start()
        assert read(connection, len(body) + 1) == body
    assert proxy.state("echo")["bytes"] == {"up": len(body), "down": len(body)}


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_delay_holds_each_portion_back(proxy, direction):
    with connect(proxy) as connection:
        ask(connection)
        proxy.set("echo", **{direction: {"delay_ms": 200}})
        began = time.monotonic()
        assert ask(connection) == b"hello"
        assert 0.19 < time.monotonic() - began < 2


@pytest.mark.parametrize("at", [0, 1, 7, 100])
@pytest.mark.parametrize("how,ends", [("close", b""), ("reset", ConnectionResetError)])
def test_a_connection_is_cut_after_exactly_n_bytes(proxy, at, how, ends):
    proxy.set("echo", down={"cut_at": at, "cut_how": how})
    with connect(proxy) as connection:
        connection.sendall(bytes(100))
        got = b""
        try:
            while portion := connection.recv(1000):
                got += portion
            end = b""
        except ConnectionResetError:
            end = ConnectionResetError
        assert len(got) == at or how == "reset"         # what a reset overtakes is lost with it
        assert end == ends


def test_bytes_are_counted_from_the_moment_the_cut_is_set(proxy):
    with connect(proxy) as connection:
        assert ask(connection, bytes(50)) == bytes(50)
        proxy.set("echo", down={"cut_at": 10, "cut_how": "close"})
        connection.sendall(bytes(50))
        assert len(read(connection, 50)) == 10


def test_only_so_many_connections_are_cut(proxy):
    proxy.set("echo", down={"cut_at": 0, "cut_how": "close", "cut_times": 2})
    for answer in (b"", b"", b"hello", b"hello"):
        with connect(proxy) as connection:
            assert ask(connection) == answer


def test_half_closed_ends_one_direction_only(proxy):
    proxy.set("echo", down={"cut_at": 5, "cut_how": "half"})
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"
        assert connection.recv(1) == b""
        before = proxy.state("echo")["bytes"]["up"]
        connection.sendall(b"still heard")
        deadline = time.monotonic() + 5
        while proxy.state("echo")["bytes"]["up"] < before + 11:
            assert time.monotonic() < deadline


def test_a_black_hole_loses_nothing_once_it_ends(proxy):
    with connect(proxy) as connection:
        ask(connection)
        proxy.set("echo", up={"hold": True})
        connection.sendall(b"held")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(5)
        proxy.clear()
        assert read(connection, 4) == b"held"


def test_a_throttle_lets_so_many_bytes_through_in_a_second(proxy):
    proxy.set("echo", down={"bytes_per_s": 100_000})
    with connect(proxy) as connection:
        began = time.monotonic()
        assert len(ask(connection, bytes(50_000))) == 50_000
        assert 0.4 < time.monotonic() - began < 3


def test_refusing_and_listening_again(proxy):
    port = proxy.port("echo")
    proxy.set("echo", refuse=True)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    proxy.set("echo", refuse=False)
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"


@pytest.mark.parametrize("how", ["reset", "close"])
def test_connections_there_are_can_be_ended_and_new_ones_work(proxy, how):
    with connect(proxy) as connection:
        ask(connection)
        proxy.end("echo", how)
        try:
            assert connection.recv(1) == b"" and how == "close"
        except ConnectionResetError:
            assert how == "reset"
    with connect(proxy) as connection:
        assert ask(connection) == b"hello"


def test_a_target_that_is_away_resets_the_client():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    proxy = Proxy({"echo": (0, port)})
    try:
        # The reset may come before connect() has returned.
        with pytest.raises(ConnectionResetError), connect(proxy) as connection:
            connection.recv(1)
    finally:
        proxy.stop()


def test_an_unknown_rule_or_link_is_refused(proxy):
    with pytest.raises(ValueError, match="no such rule"):
        proxy.set("echo", up={"dealy_ms": 1})
    with pytest.raises(ValueError, match="no link"):
        proxy.set("ecco", refuse=True)
