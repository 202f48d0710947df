"""The lab's proxy: what it does to bytes, and whether the simulation says the same of a run."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import time

import numpy as np
import pandas as pd
import psutil
import pytest

import simlib as sl
from simlib.analysis import outages
from simlib.core import wire
from simlib.core.faults import is_affected
from simlib.live import lab, loopback
from simlib.live.ipc import Child
from simlib.live.messages import Port, Progress, Settings, preamble, ready_byte
from simlib.live.proxy import Proxy
from simlib.scenario import compile_workload

pytestmark = pytest.mark.live

LATE_S = 0.03
"""What a busy machine may be late by."""
CLIENT = 5
BOARD = sl.Scenario(transport="websocket", updates={"rate_per_s": 1.0}, horizon_s=1000.0)


@pytest.fixture(autouse=True)
def leaves_no_process():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


# -- the proxy alone, before a small server ------------------------------------------------------


async def echo(reader, writer):
    """Send back what comes; end when the client ends."""
    while data := await reader.read(65536):
        writer.write(data)
    writer.write_eof()


@contextlib.asynccontextmanager
async def proxied(*faults, serve=echo, time_scale=1.0, **changes):
    """A proxy under faults, before a server that serves with `serve`; the run has just started."""
    served, failures = {}, []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    async def accept(reader, writer):
        served[asyncio.current_task()] = writer
        with contextlib.suppress(OSError):
            await serve(reader, writer)

    scenario = BOARD.replace({"faults": list(faults), **changes})
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = Settings(
        scenario=scenario,
        seed=1,
        replication=0,
        time_scale=time_scale,
        node_ports=({Port.POLL: port, Port.PUSH: port},),
    )
    async with Proxy(settings) as proxy:
        proxy.begin(time.monotonic())
        proxy.server = server
        yield proxy
    server.close()
    for writer in served.values():
        writer.close()
    if served:
        await asyncio.wait(served)
    assert not failures


@contextlib.asynccontextmanager
async def dialled(proxy, port=Port.PUSH, client=CLIENT):
    """A connection on which the client has sent its number."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.ports[port])
    writer.write(preamble(client, 1))
    yield reader, writer
    writer.close()


@contextlib.asynccontextmanager
async def connected(proxy, port=Port.PUSH, client=CLIENT):
    """A connection through to the server."""
    async with dialled(proxy, port, client) as (reader, writer):
        assert await reader.readexactly(1) == ready_byte(0)
        yield reader, writer


async def round_trip_s(reader, writer, data=b"x"):
    start_s = time.monotonic()
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    return time.monotonic() - start_s


async def is_silent(reader, wait_s):
    """Whether neither a byte nor an end comes."""
    try:
        await asyncio.wait_for(reader.read(1), wait_s)
    except TimeoutError:
        return True
    return False


def during(scenario_test):
    """Run a coroutine as a test, for at most 20 s."""
    asyncio.run(asyncio.wait_for(scenario_test(), 20.0))


def fault(kind, start_s=0.0, length_s=100.0, **amounts):
    return {"kind": kind, "start_s": start_s, "length_s": length_s, **amounts}


def test_all_bytes_pass_unchanged_both_ways_and_are_counted():
    data = bytes(range(256)) * 20_000

    async def test():
        async with proxied() as proxy, connected(proxy) as (reader, writer):
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data
            assert proxy.report()["up_bytes"] == proxy.report()["down_bytes"] == len(data)

    during(test)


def test_latency_adds_half_of_itself_to_each_way_and_to_the_handshake():
    async def test():
        slow = fault("latency", 0.0, 0.8, added_s=0.2, share=0.5)
        hit = [is_affected(1, 0, client, 0, 0.0, 0.5) for client in range(20)]
        async with proxied(slow) as proxy:
            start_s = time.monotonic()
            async with connected(proxy, client=hit.index(True)) as ends:
                assert time.monotonic() - start_s == pytest.approx(0.2, abs=LATE_S)
                assert await round_trip_s(*ends) == pytest.approx(0.2, abs=LATE_S)
                async with connected(proxy, client=hit.index(False)) as others:
                    assert await round_trip_s(*others) < LATE_S
                await asyncio.sleep(0.4)
                assert await round_trip_s(*ends) < LATE_S
            assert 0.0 < proxy.report()["late_s"]["median"] < 0.005

    during(test)


def test_each_client_has_the_measured_round_trip_that_is_drawn_for_it():
    scenario = BOARD.replace({"network.rtt_quantiles": [[0.0, 0.1], [1.0, 0.9]], "clients": 8})
    loopback = sl.on_loopback(scenario, time_scale=2.0)
    alone_s = sl.on_loopback(BOARD.replace(faults=[fault("latency", added_s=1.0)])).network.rtt_s
    drawn_s = compile_workload(scenario, 1, 0).rtt_s
    predicted_s = compile_workload(loopback, 1, 0).rtt_s
    assert predicted_s - drawn_s == pytest.approx(2.0 * alone_s)

    async def test():
        changes = {"network": loopback.network, "clients": 8}
        async with proxied(time_scale=2.0, **changes) as proxy:
            for client in (CLIENT, 1 - CLIENT % 2):
                start_s = time.monotonic()
                async with connected(proxy, client=client) as ends:
                    opened_s = time.monotonic() - start_s
                    assert 0.0 <= opened_s - drawn_s[client] / 2.0 < LATE_S
                    took_s = await round_trip_s(*ends)
                    assert 0.0 <= took_s - drawn_s[client] / 2.0 < LATE_S

    during(test)


def test_jitter_is_the_simulations_and_stays_for_a_second():
    async def test():
        shaky = fault("latency", added_s=0.1, jitter_s=1.0)
        async with proxied(shaky, time_scale=2.0) as proxy, connected(proxy) as ends:
            conditions = proxy.conditions
            for _ in range(3):
                next_s = int(conditions.clock.now_s()) + 1.02
                await asyncio.sleep((next_s - conditions.clock.now_s()) / 2.0)
                one_way_s = conditions.one_way_s(CLIENT)
                assert 0.025 <= one_way_s <= 0.275
                writer, reader = ends[1], ends[0]
                start_s = time.monotonic()
                writer.write(b"x")
                await asyncio.sleep(one_way_s / 2.0)
                if int(conditions.clock.now_s()) == int(next_s):
                    assert conditions.one_way_s(CLIENT) == one_way_s
                await reader.readexactly(1)
                assert time.monotonic() - start_s > one_way_s

    during(test)


def test_what_comes_later_never_overtakes_when_latency_drops():
    async def test():
        slow = fault("latency", 0.1, 0.3, added_s=0.8)
        async with proxied(slow) as proxy, connected(proxy) as (reader, writer):
            await asyncio.sleep(0.2)
            sent_s = time.monotonic()
            writer.write(b"before")
            await asyncio.sleep(0.3)
            writer.write(b"after")
            assert await reader.readexactly(11) == b"beforeafter"
            assert time.monotonic() - sent_s == pytest.approx(0.4, abs=LATE_S)

    during(test)


async def pour(reader, writer):
    """Send without end, as fast as it is taken."""
    while True:
        writer.write(b"x" * 1000)
        await writer.drain()


@pytest.mark.parametrize("rate", [2_000.0, 100_000.0, 4_000_000.0])
def test_bandwidth_is_what_passes_down(rate):
    async def test():
        async with (
            proxied(fault("bandwidth", bytes_per_s=rate), serve=pour) as proxy,
            connected(proxy) as (reader, _),
        ):
            got, start_s = 0, time.monotonic()
            while time.monotonic() < start_s + 1.0:
                got += len(await reader.read(65536))
            assert got == pytest.approx(rate, rel=0.03, abs=rate * LATE_S)

    during(test)


def test_a_message_is_whole_when_a_line_of_that_rate_has_carried_it():
    async def test():
        async with (
            proxied(fault("bandwidth", bytes_per_s=5_000.0), time_scale=4.0) as proxy,
            connected(proxy) as ends,
        ):
            for _ in range(2):
                took_s = await round_trip_s(*ends, b"x" * 5_000)
                assert took_s == pytest.approx(0.25, abs=LATE_S)
                await asyncio.sleep(0.1)

    during(test)


def test_all_connections_share_a_link_that_carries_one_piece_after_the_other():
    async def test():
        rate = {"network": {"shared_down_bytes_per_s": 50_000.0}}
        async with proxied(time_scale=2.0, **rate) as proxy, contextlib.AsyncExitStack() as stack:
            ends = [
                await stack.enter_async_context(connected(proxy, client=client))
                for client in range(4)
            ]
            start_s = time.monotonic()
            took_s = await asyncio.gather(*(round_trip_s(*each, b"x" * 10_000) for each in ends))
            # A tenth of a second each; the way up is free.
            assert sorted(took_s) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=LATE_S)
            assert await round_trip_s(*ends[0]) < LATE_S
            assert time.monotonic() - start_s < 0.4 + 2 * LATE_S

    during(test)


def test_only_those_concerned_are_narrow_and_all_flows_when_it_ends():
    async def test():
        narrow = fault("bandwidth", 0.0, 0.6, bytes_per_s=1_000.0, share=0.5)
        hit = [is_affected(1, 0, client, 0, 0.0, 0.5) for client in range(20)]
        async with (
            proxied(narrow) as proxy,
            connected(proxy, client=hit.index(True)) as (reader, writer),
            connected(proxy, client=hit.index(False)) as others,
        ):
            assert await round_trip_s(*others, b"x" * 50_000) < 2 * LATE_S
            start_s = time.monotonic()
            writer.write(b"x" * 2_000_000)
            got = 0
            while time.monotonic() < start_s + 0.5:
                with contextlib.suppress(TimeoutError):
                    got += len(await asyncio.wait_for(reader.read(65536), 0.05))
            assert 400 <= got <= 700
            await reader.readexactly(2_000_000 - got)
            assert time.monotonic() - start_s < 1.5

    during(test)


def test_a_narrow_path_holds_the_server_back():
    socket_bytes = 65_536

    async def serve(reader, writer):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, socket_bytes // 2)
        for _ in range(400):
            writer.write(b"x" * 1000)
        await asyncio.sleep(0.5)
        left.append(writer.transport.get_write_buffer_size())
        await writer.drain()

    left = []

    async def test():
        narrow = fault("bandwidth", 0.0, 0.8, bytes_per_s=1_000.0)
        async with proxied(narrow, serve=serve) as proxy, connected(proxy) as (reader, _):
            await reader.readexactly(400_000)

    during(test)
    in_the_kernels = 400_000 - left[0]
    assert 0.6 * socket_bytes < in_the_kernels < 1.4 * socket_bytes


def test_a_dead_path_is_silent_for_good_and_tells_no_end():
    """Nothing crosses, no end either; new connections wait for the fault's end."""
    heard = asyncio.Queue()

    async def serve(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
            heard.put_nowait(data)
        heard.put_nowait("end")

    async def test():
        lost = fault("path_loss", 2.0, 4.0)
        async with proxied(lost, serve=serve, time_scale=10.0) as proxy:
            async with connected(proxy) as (reader, writer), connected(proxy) as leaver:
                assert await round_trip_s(reader, writer, b"alive") < LATE_S
                assert await heard.get() == b"alive"
                await asyncio.sleep(0.25)
                writer.write(b"lost")
                leaver[1].close()
                start_s = time.monotonic()
                async with connected(proxy):
                    # The fault ends after 0.35 s. SYNs go out at 0, 0.1 and 0.3 s, then at 0.7 s.
                    assert time.monotonic() - start_s == pytest.approx(0.7, abs=2 * LATE_S)
                assert await heard.get() == "end"  # of the new one, which is alive
                writer.write(b"lost for good")
                assert await is_silent(reader, 0.2)
            await asyncio.sleep(0.05)
            assert heard.empty()

    during(test)


def test_the_end_of_a_server_does_not_cross_a_dead_path():
    async def serve(reader, writer):
        await asyncio.sleep(0.2)
        writer.transport.abort()

    async def test():
        lost = fault("path_loss", 0.1, 0.2)
        async with proxied(lost, serve=serve) as proxy, connected(proxy) as (reader, _):
            assert await is_silent(reader, 0.5)

    during(test)


def test_a_request_on_a_dead_path_gets_its_kernels_verdict_at_last():
    async def test():
        lost = fault("path_loss", 1.0, 1.0)
        changes = {"network.unanswered_s": 4.0}
        async with (
            proxied(lost, time_scale=10.0, **changes) as proxy,
            connected(proxy, Port.POLL) as (reader, writer),
        ):
            await asyncio.sleep(0.25)
            start_s = time.monotonic()
            writer.write(b"GET")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert time.monotonic() - start_s == pytest.approx(0.4, abs=LATE_S)

    during(test)


def test_a_blocked_upgrade_is_answered_403_and_never_reaches_the_server():
    heard = []

    async def serve(reader, writer):
        heard.append(await reader.read())

    async def test():
        blocked = fault("block_upgrades", 0.0, 0.2)
        spec = BOARD.wire_spec()
        request = wire.upgrade_request(spec, "x" * 24)
        async with proxied(blocked, serve=serve) as proxy:
            async with connected(proxy) as (reader, writer):
                writer.write(request)
                answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
            assert len(answer) == len(wire.upgrade_refused(spec, "x" * 29))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"\r\nContent-Length: %d\r\n" % len(body) in head
            async with connected(proxy, Port.POLL) as (_, writer):
                writer.write(b"GET")
            await asyncio.sleep(0.25)
            async with connected(proxy) as (_, writer):
                writer.write(request)
            await asyncio.sleep(0.05)
        assert heard == [b"", b"GET", request]

    during(test)


@pytest.mark.parametrize("is_reset", [True, False])
@pytest.mark.parametrize("who", ["client", "server"])
def test_on_a_live_path_an_end_passes_as_what_it_is(who, is_reset):
    async def finish(writer):
        if is_reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        else:
            writer.write_eof()

    async def notice(reader):
        try:
            heard.append(await reader.read())
        except ConnectionResetError:
            heard.append("reset")

    async def serve(reader, writer):
        if who == "server":
            await finish(writer)
        else:
            await notice(reader)

    heard = []

    async def test():
        async with proxied(serve=serve) as proxy, connected(proxy) as (reader, writer):
            if who == "client":
                await finish(writer)
            else:
                await notice(reader)
            await asyncio.sleep(0.1)
            assert heard == ["reset" if is_reset else b""]

    during(test)


def test_an_end_for_a_client_that_has_been_reset_is_no_error():
    async def serve(reader, writer):
        await reader.read()
        writer.write(b"x")  # is answered with a reset, which the proxy does not look for any more
        await asyncio.sleep(0.02)
        writer.write_eof()

    async def test():
        async with proxied(fault("latency", added_s=0.02), serve=serve) as proxy:
            async with connected(proxy):
                pass
            await asyncio.sleep(0.2)
            assert not proxy.connections

    during(test)


def test_a_port_that_refuses_is_told_at_once_and_without_a_word():
    async def test():
        async with proxied() as proxy:
            proxy.server.close()
            async with dialled(proxy) as (reader, _):
                with pytest.raises(ConnectionResetError):
                    await asyncio.wait_for(reader.read(1), 1.0)
            await asyncio.sleep(0.05)
            assert not proxy.connections

    during(test)


def test_a_client_that_goes_before_it_is_through_leaves_nothing():
    async def test():
        async with proxied(fault("path_loss")) as proxy:
            async with dialled(proxy):
                await asyncio.sleep(0.05)
                assert len(proxy.connections) == 1
            await asyncio.sleep(0.05)
            assert not proxy.connections
            assert not proxy.tasks

    during(test)


# -- whole runs ----------------------------------------------------------------------------------

SCALE = 4.0
RUN = BOARD.replace(
    {
        "clients": 60,
        "ramp_s": 3.0,
        "horizon_s": 22.0,
        "websocket": {"resync": "none", "open_timeout_s": 4.0},
        "heartbeat": {"interval_s": 2.0, "timeout_s": 2.0},
        "reconnect": {"policy": "full_jitter", "base_s": 1.0, "cap_s": 4.0},
    }
)
LOST = {"kind": "path_loss", "start_s": 5.0, "length_s": 5.0, "share": 0.5}


def both(scenario, time_scale=SCALE, keep=()):
    live = sl.measure(scenario, seed=2, time_scale=time_scale, keep=keep, progress=False)
    simulated = sl.simulate(live.scenario, seed=2, keep=keep, progress=False)
    return live, simulated


def test_clients_whose_paths_died_come_back_when_predicted():
    live, simulated = both(RUN.replace(faults=[LOST]))
    measured, predicted = outages.reconnections(live, simulated).to_dict("records")
    assert measured["cut"] == predicted["cut"] > 20
    assert measured["back_frac"] == predicted["back_frac"] == 1.0
    for quantile in ("t50_s", "t95_s", "t100_s"):
        assert measured[quantile] == pytest.approx(predicted[quantile], rel=0.03)
    assert measured["attempts"] == pytest.approx(predicted["attempts"], rel=0.05)
    assert measured["lost"] == pytest.approx(predicted["lost"], rel=0.05)
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    spared = ours["connections"] == 1
    assert spared.sum() == 60 - measured["cut"]
    assert ours.loc[spared, "errors"].equals(theirs.loc[spared, "errors"])
    # Who gets in within a millisecond of a change, on a busy machine, gets it or does not.
    more = ours.loc[spared, "messages"] - theirs.loc[spared, "messages"]
    assert more.abs().max() <= 1
    carried, to_carry = (run.frame("timeline").sum() for run in (live, simulated))
    for column in ("payload_up_bytes", "payload_down_bytes"):
        assert carried[column] == pytest.approx(to_carry[column], rel=0.005)


def test_a_swallowed_upgrade_is_not_answered_even_when_the_fault_is_over():
    heard = []

    async def serve(reader, writer):
        heard.append(await reader.read())

    async def test():
        request = wire.upgrade_request(BOARD.wire_spec(), "x" * 24)
        blocked = fault("block_upgrades", 0.0, 0.2, answered=False)
        async with proxied(blocked, serve=serve) as proxy:
            async with connected(proxy) as (reader, writer):
                writer.write(request)
                assert await is_silent(reader, 0.4)
            await asyncio.sleep(0.05)
            async with connected(proxy) as (_, writer):
                writer.write(request)
            await asyncio.sleep(0.05)
        assert heard == [b"", request]

    during(test)


def test_clients_whose_upgrades_were_swallowed_give_up_when_predicted():
    fault = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 6.6, "share": 0.5}
    changes = {"websocket.open_timeout_s": 3.0, "horizon_s": 12.0}
    changes["faults"] = [{**fault, "answered": False}]
    live, simulated = both(RUN.replace(changes))
    first_s = [
        run.frame("connections").groupby("client")["opened_s"].min() for run in (live, simulated)
    ]
    for q in (0.5, 0.75, 0.95, 1.0):
        assert first_s[0].quantile(q) == pytest.approx(first_s[1].quantile(q), rel=0.03, abs=0.05)
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    assert ours["errors"].sum() == theirs["errors"].sum() > 20


def test_clients_that_take_a_403_for_final_are_those_that_were_predicted():
    fault = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 6.0, "share": 0.5}
    changes = {"reconnect.retries_4xx": False, "horizon_s": 12.0, "faults": [fault]}
    live, simulated = both(RUN.replace(changes))
    columns = ["attempts", "errors", "connections"]
    ours, theirs = live.frame("clients")[columns], simulated.frame("clients")[columns]
    pd.testing.assert_frame_equal(ours, theirs)
    assert 10 < (ours["connections"] == 0).sum() < len(ours) - 10


def test_clients_whose_upgrades_were_blocked_get_in_when_predicted():
    fault = {"kind": "block_upgrades", "start_s": 1.0, "length_s": 6.6, "share": 0.5}
    # With this seed nobody tries within 0.3 s of the fault's end: nobody gets in by being late.
    live, simulated = both(RUN.replace({"faults": [fault], "horizon_s": 16.0}))
    first_s = [
        run.frame("connections").groupby("client")["opened_s"].min() for run in (live, simulated)
    ]
    assert (first_s[0] > 7.6).sum() == (first_s[1] > 7.6).sum() > 15
    for q in (0.5, 0.75, 0.95, 1.0):
        assert first_s[0].quantile(q) == pytest.approx(first_s[1].quantile(q), rel=0.03)
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    assert ours["errors"].sum() == pytest.approx(theirs["errors"].sum(), rel=0.03)
    carried = [run.frame("timeline")["payload_down_bytes"].sum() for run in (live, simulated)]
    assert carried[0] == pytest.approx(carried[1], rel=0.01)


def test_pollers_on_dead_paths_poll_again_when_predicted():
    changes = {"transport": "polling", "polling.interval_s": 2.0, "network.unanswered_s": 6.0}
    live, simulated = both(RUN.replace({**changes, "faults": [LOST]}))
    columns = ["errors", "connections"]
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    assert ours[columns].equals(theirs[columns])
    assert (ours["errors"] == 1).sum() > 20
    assert live.ledger.lost == 0
    assert live.latency_quantiles(0.95) == pytest.approx(simulated.latency_quantiles(0.95), rel=0.1)


def test_added_latency_is_seen_in_deliveries():
    slow = {"kind": "latency", "start_s": 4.0, "length_s": 4.0, "added_s": 1.0}
    changes = {"clients": 10, "updates.rate_per_s": 5.0, "horizon_s": 10.0, "faults": [slow]}
    changes |= {"warm_up_s": 3.2, "cool_down_s": 0.2}
    live, simulated = both(RUN.replace(changes), time_scale=2.0, keep=("deliveries",))
    medians = []
    for run in (live, simulated):
        rows = run.frame("deliveries")
        is_slow = rows["published_s"].between(4.0, 8.0)
        medians.append(rows.groupby(is_slow)["latency_s"].median())
    for median in medians:
        assert median[True] - median[False] == pytest.approx(0.5, abs=2 * 5e-3)
    assert live.ledger == simulated.ledger
    late_s = live.provenance["proxy"]["late_s"]
    assert 0.0 < late_s["median"] < 2e-3


STREAM = RUN.replace(
    {
        "transport": "sse",
        "reconnect": {"policy": "fixed", "base_s": 3.0},
        "websocket": {"resync": "replay", "replay_changes": 100, "open_timeout_s": 4.0},
    }
)


def test_streams_whose_paths_died_come_back_when_predicted_if_their_clients_watch_them():
    live, simulated = both(STREAM.replace({"sse.watches": True, "faults": [LOST]}))
    measured, predicted = outages.reconnections(live, simulated).to_dict("records")
    assert measured["cut"] == predicted["cut"] > 20
    for quantile in ("t50_s", "t95_s", "t100_s"):
        assert measured[quantile] == pytest.approx(predicted[quantile], rel=0.05)
    columns = ["errors", "connections", "messages"]
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    pd.testing.assert_frame_equal(ours[columns], theirs[columns])
    assert (live.ledger.lost, live.ledger.delivered) == (0, simulated.ledger.delivered)


def test_no_eventsource_sees_its_path_die():
    """Not even when the server's kernel has given the path up, and the server its stream."""
    deaf = {"network.unanswered_s": 3.0, "faults": [LOST], "warm_up_s": 4.9, "cool_down_s": 1.0}
    live, simulated = both(STREAM.replace(deaf))
    assert live.ledger == simulated.ledger
    assert live.ledger.pending > live.ledger.eligible / 4
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    assert ours["connections"].equals(theirs["connections"])
    assert ours["errors"].sum() == theirs["errors"].sum() == 0


def test_the_dead_path_of_a_stream_ends_at_the_server_alone():
    """Its kernel gives up what nobody acknowledges; the client never hears of it."""
    ended = asyncio.Queue()

    async def serve(reader, writer):
        await reader.read(1000)
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(wire.chunk(wire.STREAM_COMMENT))
                with contextlib.suppress(TimeoutError):
                    if not await asyncio.wait_for(reader.read(1), 0.05):
                        break
        ended.put_nowait(time.monotonic())

    async def test():
        lost = fault("path_loss", 0.3, 5.0)
        unanswered = {"network": {"unanswered_s": 0.5}}
        async with (
            proxied(lost, serve=serve, **unanswered) as proxy,
            connected(proxy, port=Port.POLL) as (reader, writer),
        ):
            start_s = time.monotonic()
            spec = BOARD.wire_spec()
            writer.write(wire.stream_request(spec, "x" * spec.token_bytes, 0))
            assert await reader.readexactly(13) == wire.chunk(wire.STREAM_COMMENT)
            ended_s = await asyncio.wait_for(ended.get(), 3.0)
            assert ended_s - start_s == pytest.approx(0.85, abs=0.1 + LATE_S)
            with contextlib.suppress(TimeoutError):  # what was written before the path died
                while await asyncio.wait_for(reader.read(1000), 0.05):
                    pass
            assert await is_silent(reader, 0.2)

    during(test)


def test_upgrades_may_be_blocked_and_streams_pass():
    blocked = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 11.0}
    live, simulated = both(STREAM.replace({"faults": [blocked], "horizon_s": 12.0}))
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    columns = ["errors", "connections", "messages"]
    pd.testing.assert_frame_equal(ours[columns], theirs[columns])
    assert ours["connections"].tolist() == [1] * len(ours)


def test_streams_of_two_nodes_go_to_the_other_when_one_is_deployed():
    deploy = {"kind": "rolling_deploy", "start_s": 5.0, "length_s": 1.0, "every_s": 5.0}
    live, simulated = both(STREAM.replace({"server.nodes": 2, "faults": [deploy]}))
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    columns = ["errors", "connections"]
    pd.testing.assert_frame_equal(ours[columns], theirs[columns])
    assert ours["errors"].sum() >= 60


def test_narrow_paths_deliver_as_lindley_says():
    rate = 20_000.0
    narrow = {"kind": "bandwidth", "start_s": 2.0, "length_s": 12.0, "bytes_per_s": rate}
    changes = {
        "clients": 5,
        "ramp_s": 1.0,
        "horizon_s": 16.0,
        "updates.rate_per_s": 2.5,
        "websocket.push": "snapshot",
        "heartbeat.direction": "none",
        "faults": [narrow],
    }
    live, simulated = both(RUN.replace(changes), keep=("deliveries",))
    workload = compile_workload(live.scenario, 2, 0)
    service_s = workload.sizes[wire.Message.PUSH, 1] / rate
    published_s = [t for t in workload.publish_s.tolist() if t >= 2.0]
    done_s = list(
        itertools.accumulate(published_s, lambda done, t: max(done, t) + service_s, initial=0.0)
    )[1:]
    expected_s = {
        round(t, 9): done - t for t, done in zip(published_s, done_s, strict=True) if done < 13.9
    }
    assert len(expected_s) > 15
    for run in (live, simulated):
        rows = run.frame("deliveries")
        seen_s = rows.groupby(rows["published_s"].round(9))["latency_s"].median()
        errors_s = np.array([seen_s[t] - wait_s for t, wait_s in expected_s.items()])
        assert np.median(np.abs(errors_s)) < 4e-3 * SCALE
        assert np.abs(errors_s).max() < LATE_S * SCALE
    assert max(expected_s.values()) > 2 * service_s


def test_bytes_passed_are_bytes_counted_and_a_restart_goes_through():
    faults = [
        {"kind": "restart", "start_s": 4.0, "length_s": 2.0},
        {"kind": "latency", "start_s": 1.0, "length_s": 1.0, "added_s": 1e-6},
    ]
    live, simulated = both(RUN.replace({"faults": faults, "horizon_s": 12.0}))
    clients, passed = live.frame("clients"), live.provenance["proxy"]
    assert clients["connections"].equals(simulated.frame("clients")["connections"])
    assert (clients["connections"] == 2).all()
    counted = live.frame("timeline").sum()
    # The proxy alone counts a ping that is under way as the run ends, and a pong that answers it.
    up_bytes, down_bytes = (
        passed[name] - counted[f"payload_{name}"] for name in ("up_bytes", "down_bytes")
    )
    sizes = wire.message_sizes(live.scenario.wire_spec(), "payload")
    pongs = up_bytes / sizes[wire.Message.PONG_UP, 0]
    pings = down_bytes / sizes[wire.Message.PING_DOWN, 1]
    assert pongs in range(len(clients) // 10)
    assert pings in range(len(clients) // 10)
    assert live.provenance["cpu"]["proxy_cores"] > 0.0


def test_without_a_need_there_is_no_proxy(monkeypatch):
    started = []

    class Watched(Child):
        def __init__(self, module, processor):
            started.append(module)
            super().__init__(module, processor)

    monkeypatch.setattr(lab, "Child", Watched)
    live = sl.measure(RUN.replace({"clients": 2, "horizon_s": 4.0}), time_scale=20, progress=False)
    assert started == ["simlib.live.clients"]
    assert "proxy" not in live.provenance


def test_the_death_of_the_proxy_ends_the_run(monkeypatch):
    children = []

    class Watched(Child):
        def __init__(self, module, processor):
            super().__init__(module, processor)
            children.append(self)

        def receive(self, timeout_s):
            message = super().receive(timeout_s)
            if isinstance(message, Progress):
                (proxy,) = (child for child in children if child.module == "simlib.live.proxy")
                proxy.kill()
            return message

    monkeypatch.setattr(lab, "Child", Watched)
    with pytest.raises(sl.LiveError, match=r"simlib\.live\.proxy died"):
        sl.measure(RUN.replace(faults=[LOST]), time_scale=SCALE, progress=False)


def test_a_fault_that_no_part_of_the_lab_carries_out_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(loopback, "_CARRIED_OUT", ("path_loss",))
    fault = {"kind": "reset", "start_s": 1.0}
    with pytest.raises(sl.ScenarioError) as error:
        sl.measure(RUN.replace({"faults": [LOST, fault]}), progress=False)
    assert error.value.path == "faults.1.kind"
    assert "nothing else goes wrong in the lab" in str(error.value)
