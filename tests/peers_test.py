"""Waiting for workers: over loopback, with threads in place of machines."""

import concurrent.futures
import socket

import pytest

from cdnet_tf.learn import peers


@pytest.fixture
def addresses(monkeypatch):
    monkeypatch.setattr(peers, "_POLL_S", 0.02)
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for each in (one, two, three):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (one, two, three)]
    return [f"127.0.0.1:{port}" for port in ports]


def test_all_are_there(addresses):
    """Each ends only after it has seen the others, who may not have seen it yet."""
    with socket.create_server(("127.0.0.1", int(addresses[2].split(":")[1]))):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            first = pool.submit(peers.wait, addresses, 0, 20)
            with pytest.raises(concurrent.futures.TimeoutError):
                first.result(0.2)
            # As TensorFlow does, which listens from there on.
            with socket.create_server(("127.0.0.1", int(addresses[1].split(":")[1]))):
                first.result(10)


def test_the_missing_are_named_and_what_to_start(addresses):
    with socket.create_server(("127.0.0.1", int(addresses[0].split(":")[1]))):
        message = rf"Worker 1 has waited .* for worker 2 \({addresses[2]}\)\. Start"
        with pytest.raises(TimeoutError, match=message):
            peers.wait(addresses, 1, 0.1)


def test_one_worker_alone_waits_for_nobody(addresses):
    peers.wait(addresses[:1], 0, 0)


def test_a_port_in_use_is_named(addresses):
    port = int(addresses[0].split(":")[1])
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(OSError, match=f"Port {port} of this worker .*another port"):
            peers.wait(addresses, 0, 1)
