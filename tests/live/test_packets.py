"""IP packets, as the kernel counts them."""

from __future__ import annotations

import socket
import time
from contextlib import closing

import pytest

from simlib.live.packets import HeaderCounter, limit_segments

BYTES = 10 * 1448


def connected():
    """A client's socket and a server's, which agree on the segments of an Ethernet."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        limit_segments(listener)
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


@pytest.mark.parametrize("way", ["up", "down"])
def test_segments_are_as_on_an_ethernet_whichever_side_sends(way):
    client, server = connected()
    with client, server:
        counter = HeaderCounter(client)
        sender, receiver = (client, server) if way == "up" else (server, client)
        sender.sendall(b"x" * BYTES)
        received = 0
        while received < BYTES:
            received += len(receiver.recv(65536))
        time.sleep(0.1)  # the last acknowledgement
        sent, got = counter.take()
        data, acknowledged = (sent, got) if way == "up" else (got, sent)
        assert data == 10 * 52
        assert 52 <= acknowledged <= 5 * 52
        assert counter.take() == (0, 0)
