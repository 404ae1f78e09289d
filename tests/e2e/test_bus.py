"""The bus refuses strangers: unknown keys, no CURVE, and a right key on the wrong service."""
import pytest
import zmq

from conftest import PROCESSES

CALLEES = ["auth", "ingest-worker", "embedding-worker", "query", "audit-writer"]
MAY_CALL = {
    "auth": {"edge"}, "ingest-worker": {"edge"}, "query": {"edge"},
    "embedding-worker": {"ingest-worker", "query"}, "audit-writer": {"auth", "ingest-worker", "query", "embedding-worker"},
}


def key_name(process):
    return f"CORDON_{process.upper().replace('-', '_')}_PUBLIC_KEY"


def public_key(stack, process):
    for other in PROCESSES:
        try:
            return stack.secret(other, key_name(process))
        except FileNotFoundError:
            continue
    raise AssertionError(f"nobody knows {process}'s key")


def endpoint(stack, callee):
    return stack.secret(callee, "CORDON_BUS_LISTEN").replace("[::]", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")


def handshake(stack, callee, secret=None, public=None, curve=True):
    """Name of the first event that decides: 'succeeded' or 'refused'."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    try:
        socket.linger = 0
        if curve:
            socket.curve_serverkey = public_key(stack, callee).encode()
            socket.curve_publickey, socket.curve_secretkey = public, secret
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH |
                                            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                                            zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        socket.connect(endpoint(stack, callee))
        assert monitor.poll(10_000), "no event"
        from zmq.utils.monitor import recv_monitor_message
        event = recv_monitor_message(monitor)["event"]
        return "succeeded" if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else "refused"
    finally:
        socket.disable_monitor()
        context.destroy(linger=0)


@pytest.mark.parametrize("callee", CALLEES)
def test_an_unknown_key_and_no_key_are_refused(stack, callee):
    public, secret = zmq.curve_keypair()
    assert handshake(stack, callee, secret, public) == "refused"
    assert handshake(stack, callee, curve=False) == "refused"


@pytest.mark.parametrize("callee", CALLEES)
@pytest.mark.parametrize("caller", PROCESSES)
def test_a_right_key_opens_only_the_services_it_may_call(stack, caller, callee):
    secret = stack.secret(caller, "CORDON_CURVE_SECRET_KEY").encode()
    public = zmq.curve_public(secret)
    assert public.decode() == public_key(stack, caller) or caller == callee
    assert handshake(stack, callee, secret, public) == ("succeeded" if caller in MAY_CALL[callee] else "refused")
