"""A real JupyterLab in a real browser, for tests: keys are pressed, and what is shown is read.

Chromium is spoken to in its own protocol (DevTools), over a WebSocket. It has a profile of its own
and knows no host name; JupyterLab serves a folder of the test's on 127.0.0.1.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.browser import CHROMIUM

START_S = 90.0
_DRAG_STEPS = 5
ROOT = Path(__file__).parents[2]


class Page:
    """A page of the browser."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the DevTools protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def js(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; promises are waited for."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, limit_s: float = 60.0) -> Any:
        """Wait until an expression is true, and return its value."""
        until_s = time.monotonic() + limit_s
        while time.monotonic() < until_s:
            value = self.js(expression)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"not within {limit_s:g} s: {expression}\n{self.text()[-3000:]}")

    def text(self) -> str:
        """Return what the page says."""
        return str(self.js("document.body.innerText"))

    def press(self, key: str, code: int, **options: Any) -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **options,
            )

    def drag(self, handle: str, by_px: float) -> None:
        """Drag an element sideways with the mouse, as a hand does: pressed, moved, let go.

        Parameters
        ----------
        handle : str
            An expression of JavaScript.
        by_px : float
            How far to the right; negative: to the left.
        """
        x, y = self.place(handle)
        steps = [x + by_px * step / _DRAG_STEPS for step in range(1, _DRAG_STEPS + 1)]
        self._mouse("mouseMoved", x, y, buttons=0)
        self._mouse("mousePressed", x, y)
        for now in steps:
            self._mouse("mouseMoved", now, y)
        self._mouse("mouseReleased", steps[-1], y)

    def click(self, element: str) -> None:
        """Click on the middle of an element, given as an expression of JavaScript."""
        x, y = self.place(element)
        self._mouse("mouseMoved", x, y, buttons=0)
        self._mouse("mousePressed", x, y)
        self._mouse("mouseReleased", x, y)

    def place(self, element: str) -> tuple[float, float]:
        """Scroll to an element, and return where the middle of it is."""
        x, y = self.js(
            f"(() => {{ const one = {element}; one.scrollIntoView({{block: 'center'}});"
            " const box = one.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        return x, y

    def _mouse(self, kind: str, x: float, y: float, buttons: int = 1) -> None:
        held = {"button": "left", "clickCount": 1} if buttons else {}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, buttons=buttons, **held)

    def shot(self, path: Path) -> None:
        """Write a picture of what is seen."""
        found = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(found["data"]))

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the page another size, and say which colours its user likes."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)


@contextlib.contextmanager
def jupyter_lab(folder: Path, home: Path, **environment: str) -> Iterator[str]:
    """JupyterLab on a folder, with an empty home; yields the address of a page without a notebook.

    Parameters
    ----------
    folder : Path
        What it serves.
    home : Path
        Where it keeps what it keeps.
    **environment
        More of the environment of its kernels.
    """
    port, token = free_port(), secrets.token_hex(16)
    own = {
        name: str(home) for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    }
    own |= {"JUPYTER_RUNTIME_DIR": str(home), "PYTHONPATH": str(ROOT), **environment}
    asks = home / "lab/user-settings/@jupyterlab/apputils-extension"
    asks.mkdir(parents=True)
    (asks / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.news_url=None", f"--LabApp.check_for_updates_class={_NO_UPDATES}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    with (home / "jupyter.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **own}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _await(f"{address}/api/status?token={token}", process)
            yield f"{address}/lab/tree/{{}}?token={token}&reset"
        finally:
            process.terminate()  # it ends its kernels
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_NO_UPDATES = "jupyterlab.NeverCheckForUpdate"


@contextlib.contextmanager
def browser(profile: Path, address: str, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """Chromium with a page; it ends with the block."""
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--remote-debugging-port=0",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            "about:blank",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        named = profile / "DevToolsActivePort"
        until_s = time.monotonic() + START_S
        while not named.exists() or not named.read_text().strip():
            assert process.poll() is None
            assert time.monotonic() < until_s, "Chromium does not start"
            time.sleep(0.05)
        port = named.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            [found] = [one for one in json.load(answer) if one["type"] == "page"]
        with connect(found["webSocketDebuggerUrl"], max_size=2**27, compression=None) as socket:
            page = Page(socket)
            page.call("Page.enable")
            page.resize(width, height)
            page.call("Page.navigate", url=address)
            yield page
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_all(page: Page, limit_s: float = 120.0) -> None:
    """Run the cells of the notebook that the page shows, until all have run, or one has failed."""
    page.wait("!!document.querySelector('.jp-Notebook .jp-Cell')", limit_s)
    page.wait(_IS_IDLE, limit_s)
    page.js(
        "window.hasRun = false; window.jupyterapp.commands.execute('notebook:run-all-cells')"
        ".finally(() => { window.hasRun = true; }); 0"
    )
    page.wait("window.hasRun", limit_s)


PANEL = "[...window.jupyterapp.shell.widgets('main')].find(one => one.sessionContext)"
"""The notebook's panel; its cells are ``content.widgets``."""

# Where JupyterLab asks which kernel is meant, it is the one that it proposes.
_IS_IDLE = f"""(() => {{
    document.querySelector('.jp-Dialog .jp-mod-accept')?.click();
    const panel = window.jupyterapp?.shell && {PANEL};
    if (panel?.sessionContext.session?.kernel?.status !== 'idle') return false;
    window.jupyterapp.shell.activateById(panel.id);
    return true;
}})()"""


def free_port() -> int:
    """Return a port that nothing listens to now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + START_S
    while True:
        assert process.poll() is None, "JupyterLab has ended"
        assert time.monotonic() < until_s, "JupyterLab does not start"
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.1)
