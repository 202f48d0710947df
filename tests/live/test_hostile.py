"""What strangers send to the lab's server is answered as stated, and costs it little.

`hostile.py` has the inputs; run by hand, it also floods the server and measures honest clients.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import psutil
import pytest

from simlib.live.guards import MOST_REPLY_BYTES
from simlib.live.messages import Port
from simlib.live.tokens import make_token
from tests.live import hostile
from tests.live.hostile import Kill, Served, dial, enter, failures, frame, poll_with, say, stop

pytestmark = pytest.mark.live

QUICK = hostile.token_attacks, hostile.origin_attacks, hostile.head_attacks, hostile.frame_attacks
SLOW = (hostile.time_attacks,)


def test_every_hostile_input_gets_its_answer_and_the_server_serves_on():
    with hostile.served() as server, ThreadPoolExecutor() as pool:
        process = psutil.Process(server.process.pid)
        files, memory_bytes = process.num_fds(), process.memory_info().rss
        groups = [
            list(chain.from_iterable(group() for group in groups)) for groups in (QUICK, SLOW)
        ]
        failed = pool.map(failures, [server] * 2, groups)
        assert [line for lines in failed for line in lines] == []
        token = make_token(hostile.SECRET, 0, hostile.LENGTH)
        assert say(server, Port.POLL, poll_with(f"Authorization: Bearer {token}")) == "200"
        assert process.memory_info().rss < memory_bytes + 20e6
        assert process.num_fds() <= files + 20  # of the last, some are still being closed
        assert stop(server).keys() <= {"frames", "heads"}


def test_who_asks_too_often_is_told_so_and_others_are_served():
    with hostile.served() as server:
        assert failures(server, list(hostile.rate_attacks())) == []
        token = make_token(hostile.SECRET, 0, hostile.LENGTH)
        assert say(server, Port.POLL, poll_with(f"Authorization: Bearer {token}")) == "200"
        assert stop(server).keys() == {"requests", "failures", "sockets", "connections"}


def pings_until_cut(server: Served, most: int) -> int:
    """How many pings a client that never reads, and whose kernel holds little, gets to send."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(10.0)
        raw.connect(("127.0.0.1", server.ports[Port.PUSH]))
        enter(raw, 0)
        for count in range(0, most, 50):
            try:
                raw.sendall(frame(9, b"x" * 125) * 50)
            except OSError:
                return count
    return most


def test_replies_that_are_not_read_are_bounded_whatever_the_policy_for_slow_consumers():
    narrow = {"kind": "bandwidth", "start_s": 1.0, "length_s": 9.0, "bytes_per_s": 1e6}
    board = hostile.SCENARIO.replace(
        {
            "heartbeat.interval_s": 1e-6,  # so often, that the rate of frames is no limit
            "updates.rate_per_s": 1e-3,
            "server.socket_bytes": 8192,
            "faults": [narrow],
        }
    )
    assert board.server.slow_consumers == "unbounded"
    with hostile.served(board) as server:
        # Beside the replies, the kernel holds pings that were sent and have not been looked at.
        assert pings_until_cut(server, 200_000) * 127 < 100 * MOST_REPLY_BYTES
        assert stop(server) == {"replies": 1}


def test_what_is_pushed_to_a_client_that_never_reads_is_kept_under_unbounded():
    board = hostile.SCENARIO.replace(
        {
            "updates.rate_per_s": 50.0,
            "updates.delta_bytes": 200_000,
            "updates.snapshot_bytes": 400_000,
        }
    )
    with hostile.served(board) as server, dial(server, Port.PUSH) as raw:
        enter(raw, 0)
        hostile.read_to_end(raw, 3.0, b'"ready"')
        time.sleep(1.0)
        data, is_closed = hostile.read_to_end(raw, 0.5)
        assert not is_closed
        assert len(data) > 50 * MOST_REPLY_BYTES
        assert stop(server) == {}


@pytest.mark.parametrize(
    "kill",
    [
        Kill("with a standby", "parent", "SIGKILL", 0.1),
        Kill("with a standby", "parent", "SIGINT", 1.0),
        Kill("with a standby", "standby", "SIGKILL", 0.1),
        Kill("with a standby and a proxy", "parent", "SIGTERM", 0.1),
        Kill("with two nodes", "parent", "SIGKILL", 4.0),
        Kill("with two nodes", "standby", "SIGKILL", 4.0),
    ],
    ids=str,
)
def test_nothing_outlives_a_run_that_is_killed(kill):
    assert hostile.gone_after_s(kill) <= hostile.most_s(kill)
