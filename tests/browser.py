"""Look at rendered pages in a real browser without a network: are the figures really drawn?

Used by the tests of `simlib.publish`; `opened` gives a tab that can be used. By hand, for pages
that `make report` wrote::

    .venv/bin/python tests/browser.py build/report/*.html
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from bs4 import BeautifulSoup
from bs4 import Tag as Element
from PIL import Image
from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WIDTH, HEIGHT = 1200, 9000
LIMIT_S = 90

Colour = tuple[int, int, int]


@dataclass
class Drawing:
    """One figure as the browser drew it: how many marks, and in which opaque colours."""

    name: str
    marks: int
    colours: set[Colour] = field(default_factory=set)


def run(page: Path, folder: Path, *what: str) -> str:
    """Open a page in headless Chromium, with every host name unknown and a profile of its own."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
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
                "--hide-scrollbars",
                "--force-device-scale-factor=1",
                "--force-color-profile=srgb",
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={profile}",
                f"--window-size={WIDTH},{HEIGHT}",
                "--virtual-time-budget=10000",
                *what,
                page.resolve().as_uri(),
            ],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{CHROMIUM}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode()


def look(page: Path, folder: Path) -> tuple[list[Drawing], np.ndarray]:
    """Return what a page shows.

    Returns
    -------
    list of Drawing
        What was drawn of each figure, in the order of the page.
    ndarray of uint8, shape (rows, columns, 3)
        A picture of the page: red, green, blue.
    """
    target = folder / f"{page.stem}.png"
    content = run(page, folder, "--dump-dom", f"--screenshot={target}")
    with Image.open(target) as picture:
        return _drawings(content), np.asarray(picture.convert("RGB"))


def _drawings(content: str) -> list[Drawing]:
    soup = BeautifulSoup(content, "html.parser")
    found = []
    for box in soup.select("div.figure"):
        # plotly.js keeps the marks of each kind of trace in a layer of its own; heat maps and
        # images are drawn as pictures.
        marks = box.select(".mlayer path, .mlayer circle, .mlayer image, .pielayer path")
        found.append(
            Drawing(str(box.get("id")), len(marks), {c for m in marks for c in _colours(m)})
        )
    return found


def _colours(mark: Element) -> Iterator[Colour]:
    style = str(mark.get("style", ""))
    settings = dict(map(str.strip, part.split(":", 1)) for part in style.split(";") if ":" in part)
    for kind in ("stroke", "fill"):
        match = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", settings.get(kind, ""))
        opacities = (settings.get("opacity", "1"), settings.get(f"{kind}-opacity", "1"))
        # A mark that lets the paper shine through has another colour on the screen.
        if match and all(float(opacity) == 1 for opacity in opacities):
            red, green, blue = map(int, match.groups())
            # White outlines and grey helpers are everywhere on a page and prove nothing.
            if max(red, green, blue) - min(red, green, blue) > 30:
                yield red, green, blue


def pixels_by_colour(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours of a picture, shape (colours, 3), and how many pixels have each."""
    places = (256**2, 256, 1)
    counts = np.bincount((picture @ np.array(places)).ravel())
    found = np.flatnonzero(counts)
    return np.stack([found // place % 256 for place in places], axis=1), counts[found]


def pixels_like(
    pixels: tuple[np.ndarray, np.ndarray], colour: Colour, *, tolerance: int = 12
) -> int:
    """Count the pixels that have about this colour."""
    colours, counts = pixels
    near = np.abs(colours - np.array(colour)) <= tolerance
    return int(counts[near.all(axis=1)].sum())


def problems(page: Path, folder: Path, *, figures: int | None = None) -> list[str]:
    """Say what is wrong with a page in a browser; an empty list means that all is drawn."""
    drawn, picture = look(page, folder)
    found = []
    if figures is not None and len(drawn) != figures:
        found.append(f"{page.name}: {figures} figures stored, {len(drawn)} in the page")
    pixels = pixels_by_colour(picture)
    for figure in drawn:
        where = f"{page.name}: {figure.name}"
        if not figure.marks:
            found.append(f"{where}: no trace drawn")
        elif figure.colours:
            most = max(pixels_like(pixels, colour) for colour in figure.colours)
            if most < 20:
                found.append(f"{where}: {figure.marks} marks, but only {most} coloured pixels")
    return found


DRAWN = """[...document.querySelectorAll(".figure")].filter(box => !box.closest("[hidden]"))
  .every(box => box.classList.contains("drawn") || box.innerText.includes("could not draw"))"""


class Tab:
    """A page that is open in headless Chromium, without a network, and can be used.

    Parameters
    ----------
    devtools : ClientConnection
        By which Chromium is asked.
    """

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._numbers = count(1)
        self.ask("Page.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something by the protocol of Chromium's developer tools."""
        number = next(self._numbers)
        self._devtools.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._devtools.recv(timeout=LIMIT_S))
            if message.get("id") == number:
                assert "error" not in message, (method, message)
                return dict(message["result"])

    def run(self, script: str) -> Any:
        """Return what an expression is in the page, once it is settled."""
        done = self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true in the page."""
        wait_for(lambda: bool(self.run(script)), script)

    def look(self, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Give the screen a size and the system a colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", features=media)

    def open(self, page: Path, part: str = "") -> None:
        """Open a page, and wait until its figures are drawn or said not to be."""
        address = page.resolve().as_uri()
        self.ask("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'")
        self.ask("Page.navigate", url=f"{address}{part}")
        self.until(f"location.href.startsWith('{address}') && document.readyState === 'complete'")
        self.until(DRAWN)

    def press(self, key: str, code: int) -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)


@contextmanager
def opened() -> Iterator[Tab]:
    """Start Chromium on an empty page, and end it."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                CHROMIUM,
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
            wait_for(lambda: port.exists() and port.read_text().count("\n") > 0, "Chromium")
            number, path = port.read_text().split()
            with connect(f"ws://127.0.0.1:{number}{path}", proxy=None) as browser:
                asked = {"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}
                browser.send(json.dumps(asked))
                target = json.loads(browser.recv(timeout=LIMIT_S))["result"]["targetId"]
            address = f"ws://127.0.0.1:{number}/devtools/page/{target}"
            with connect(address, proxy=None, max_size=None) as devtools:
                yield Tab(devtools)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end, f"not so within {LIMIT_S} s: {what}"
        time.sleep(0.05)


def main(pages: list[str]) -> int:
    """Check pages by hand."""
    if CHROMIUM is None:
        print("no Chromium here", file=sys.stderr)
        return 1
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for page in map(Path, pages):
            found = problems(page, Path(folder))
            bad += len(found)
            print("\n".join(found) if found else f"{page}: all figures drawn")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
