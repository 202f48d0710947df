"""Real tabs of Chromium share its connections as the simulated ones do.

The page is the wiring that people meet this with: two streams a tab, of which one says that
something has changed, and a fetch of what has. Three tabs have all six connections that the browser
opens to a server over HTTP/1.1, so that no fetch of any of them is answered until a tab is closed.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager

import pytest
from aiohttp import WSMsgType, web

import simlib as sl
from simlib.scenario import compile_workload
from tests.browser import CHROMIUM
from tests.devtools import Browser, soon

pytestmark = pytest.mark.live

TABS, STREAMS, CONNECTIONS = 3, 2, 6
SOON_S, NEVER_S = 5.0, 2.0
"""How long to wait for what comes, and for what does not."""
PAGE = """<!doctype html><title>board</title><script>
const tab = location.search.slice(1);
for (let k = 0; k < STREAMS; k++) {
  const stream = new EventSource(`/stream?${tab}&k=${k}`);
  stream.onmessage = (event) => {
    fetch(`/board?${tab}&change=${event.data}`);
    new WebSocket(`ws://${location.host}/socket?${tab}&change=${event.data}`);
  };
}
</script>""".replace("STREAMS", str(STREAMS))


class Board:
    """A server that tells tabs of changes, and notes whose fetch and whose socket has come."""

    def __init__(self):
        self.streams = {}
        self.fetched, self.connected = [], []

    async def page(self, _request):
        return web.Response(text=PAGE, content_type="text/html")

    async def stream(self, request):
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        place = int(request.query["tab"]), int(request.query["k"])
        self.streams[place] = answer
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.01)
        del self.streams[place]
        return answer

    async def board(self, request):
        self.fetched.append((int(request.query["change"]), int(request.query["tab"])))
        return web.json_response({})

    async def socket(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connected.append((int(request.query["change"]), int(request.query["tab"])))
        while (await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED):
            pass
        return socket

    async def publish(self, change):
        for (_, k), answer in sorted(self.streams.items()):
            if k == 0:
                await answer.write(f"data: {change}\n\n".encode())

    def tabs_of(self, change, log):
        return sorted(tab for known, tab in log if known == change)

    @asynccontextmanager
    async def served(self):
        app = web.Application()
        for path in ("page", "stream", "board", "socket"):
            app.router.add_get(f"/{path}", getattr(self, path))
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def answered_by_chromium():
    """For each of three changes, one after each tab has opened: which tabs' fetches are answered.

    The last one twice: before and after the first tab is closed.
    """
    board, found, opened = Board(), [], []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        async with board.served() as address, Browser.started(profile) as browser:
            for change in range(1, TABS + 1):
                opened.append(await browser.open(f"{address}/page?tab={change - 1}"))
                await soon(lambda: len(board.streams) == STREAMS * len(opened))
                await board.publish(change)
                await soon(
                    lambda: len(board.tabs_of(change, board.connected)) == len(opened)  # noqa: B023
                )
                if change < TABS:
                    await soon(
                        lambda: len(board.tabs_of(change, board.fetched)) == len(opened)  # noqa: B023
                    )
                else:
                    await asyncio.sleep(NEVER_S)
                found.append(board.tabs_of(change, board.fetched))
            await browser.close(opened[0])
            await soon(lambda: len(board.tabs_of(TABS, board.fetched)) == TABS - 1)
            found.append(board.tabs_of(TABS, board.fetched))
    return found


def answered_in_the_simulation(engine):
    """The same tabs, changes and closing."""
    board = sl.Scenario(
        transport="sse_notify",
        updates={"rate_per_s": 0.0},
        clients=TABS,
        tabs_per_user=TABS,
        ramp_s=60.0,
        horizon_s=200.0,
        heartbeat={"direction": "none"},
        network={"connections_per_user": CONNECTIONS},
        sse={"streams_per_tab": STREAMS},
    )
    starts_s = compile_workload(board, 1, 0).start_s
    assert min(starts_s[1:] - starts_s[:-1]) > 3.0
    publish_s = [t + 2.0 for t in starts_s]
    closes_s = publish_s[-1] + 10.0
    board = board.replace(
        {
            "updates": {"kind": "times", "publish_s": publish_s},
            "sessions": {
                "arrivals_per_s": 1e-9,
                "length_s": closes_s - starts_s[0],
                "length": "constant",
            },
            "horizon_s": closes_s + 2.0,
        }
    )
    run = sl.simulate(board, engine=engine, keep=["deliveries"], progress=False)
    seen = run.frame("deliveries")
    # Who fetches sees all that there is: what counts is when.
    at_once = [
        sorted(seen.query("@t < applied_s < @t + 1.0")["client"].tolist()) for t in publish_s
    ]
    return [*at_once, sorted(seen.query("applied_s > @closes_s")["client"].tolist())], run


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: no real tab opened")
def test_in_chromium_the_third_tab_with_two_streams_waits_for_its_fetch_as_simulated():
    simulated, _ = answered_in_the_simulation("simpy")
    assert asyncio.run(answered_by_chromium()) == simulated


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_the_third_tab_with_two_streams_waits_for_its_fetch_until_a_tab_is_closed(engine):
    answered, run = answered_in_the_simulation(engine)
    assert answered == [[0], [0, 1], [], [1, 2]]
    assert "queued" in [warning.kind for warning in run.warnings]
