"""Chromium without a screen and without a network, by its remote debugging protocol."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from websockets.asyncio.client import connect

from tests.browser import CHROMIUM

_STARTS_WITHIN_S = 30.0
_FAILURES = ("Runtime.exceptionThrown", "Log.entryAdded")


class Browser:
    """A browser that has been started."""

    def __init__(self, devtools):
        self.devtools, self.numbers, self.noted = devtools, count(1), []

    async def ask(self, method, session=None, **parameters):
        """Ask for something; what the browser reports meanwhile is noted."""
        number = next(self.numbers)
        asked = {"id": number, "method": method, "params": parameters}
        await self.devtools.send(json.dumps(asked | ({"sessionId": session} if session else {})))
        while True:
            message = json.loads(await self.devtools.recv())
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self.noted.append(message)

    async def open(self, address):
        """Open a tab; return its name."""
        return (await self.ask("Target.createTarget", url=address))["targetId"]

    async def close(self, tab):
        """Close a tab."""
        await self.ask("Target.closeTarget", targetId=tab)

    async def look_at(self, address, *, width=1280, height=1000):
        """Open a tab, and return what can be asked of it."""
        tab = await self.open("about:blank")
        session = (await self.ask("Target.attachToTarget", targetId=tab, flatten=True))["sessionId"]
        page = Page(self, session)
        for part in ("Runtime", "Page", "Network", "Log"):
            await page.ask(f"{part}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await page.ask("Emulation.setDeviceMetricsOverride", **size)
        await page.ask("Page.navigate", url=address)
        return page

    @classmethod
    @asynccontextmanager
    async def started(cls, profile):
        """Start a browser that keeps what it keeps in a folder."""
        process = subprocess.Popen(
            [
                str(CHROMIUM),
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--disable-background-networking", "--disable-component-update"),
                *("--disable-sync", "--no-first-run", "--remote-debugging-port=0"),
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            port = Path(profile) / "DevToolsActivePort"
            await soon(lambda: port.exists() and port.read_text().count("\n"), _STARTS_WITHIN_S)
            number, path = port.read_text().split()
            address = f"ws://127.0.0.1:{number}{path}"
            async with connect(address, proxy=None, max_size=None) as devtools:
                yield cls(devtools)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Page:
    """A tab that is looked at."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    async def ask(self, method, **parameters):
        """Ask for something of this tab."""
        return await self.browser.ask(method, self.session, **parameters)

    async def value(self, text):
        """Return the value of an expression; a promise's, when it has one."""
        asked = {"expression": text, "awaitPromise": True, "returnByValue": True}
        answer = await self.ask("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, text, within_s=60.0):
        """Wait until an expression is true."""
        async with asyncio.timeout(within_s):
            while not await self.value(f"Boolean({text})"):
                await asyncio.sleep(0.02)

    async def press(self, key):
        """Press a key, where the focus is."""
        for kind in ("keyDown", "keyUp"):
            await self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def picture(self):
        """Return what the whole page looks like, PNG."""
        taken = await self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    @property
    def requests(self):
        """The addresses that were asked for."""
        return [
            message["params"]["request"]["url"]
            for message in self.browser.noted
            if message["method"] == "Network.requestWillBeSent"
        ]

    @property
    def failures(self):
        """What went wrong in the page."""
        return [each["params"] for each in self.browser.noted if each["method"] in _FAILURES]


async def soon(is_so, within_s=5.0):
    """Wait until something is so."""
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.02)
