"""The first result that README.md shows: its table and its figure, made from one run of each kind.

``python -m tests.readme`` writes the table into ``README.md``, between `MARKS`, and the figure to
``data/first_result.svg``. `tests/test_readme.py` compares both with what the runs give today.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

import simlib as sl

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
FIGURE = ROOT / "data" / "first_result.svg"
MARKS = ("<!-- made by python -m tests.readme -->", "<!-- up to here -->")

ROWS = (
    "half of the changes",
    "95 % seen",
    "slowest",
    "IP packets down",
    "IP packets up",
    "server busy",
    "... lost",
)
"""What the rows of a summary begin with that the table shows."""
NAMES = {"polling": "polled every 30 s", "websocket": "pushed"}

# The figure: a plot of 640 by 200 units with room around it, and times on a logarithmic axis.
LEFT, TOP, WIDTH, HEIGHT = 50.0, 64.0, 640.0, 200.0
FROM_S, TO_S = 0.01, 100.0
TICKS = {0.01: "10 ms", 0.1: "100 ms", 1.0: "1 s", 10.0: "10 s", 100.0: "100 s"}
SHARES = np.concatenate([np.linspace(0.005, 0.99, 60), [0.995, 0.999, 1.0]])
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.card { fill: #ffffff; stroke: #d0d7de }
.grid { stroke: #d8dee4 }
.line { fill: none; stroke-width: 2.5 }
.polling { stroke: #b34700 } text.polling { fill: #b34700; stroke: none }
.websocket { stroke: #0072b2 } text.websocket { fill: #0072b2; stroke: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .card { fill: #0d1117; stroke: #30363d } .grid { stroke: #30363d }
  .polling { stroke: #f0883e } text.polling { fill: #f0883e }
  .websocket { stroke: #58a6ff } text.websocket { fill: #58a6ff }
}"""


def runs() -> tuple[sl.Run, sl.Run]:
    """Return the runs of the README's first block, polled and pushed."""
    board = sl.Scenario.example("matters")
    polled = sl.simulate(board, engine="simpy", progress=False)
    return polled, sl.simulate(board.replace(transport="websocket"), engine="simpy", progress=False)


def table(polled: sl.Run, pushed: sl.Run) -> str:
    """Return rows of the summary of both runs, in Markdown."""
    summary = sl.summary(polled, pushed)
    lines = [f"| | {' | '.join(NAMES.values())} |", "|---|---|---|"]
    for start in ROWS:
        [label] = [label for label in summary.index if label.startswith(start)]
        name = label.removeprefix("... ")
        name = "changes lost" if name == "lost" else name
        lines.append(f"| {name} | {' | '.join(map(str, summary.loc[label]))} |")
    return "\n".join(lines)


def figure(polled: sl.Run, pushed: sl.Run) -> str:
    """Return how many changes are seen within which time, as a drawing in SVG."""
    halves_s = [run.latency_quantiles([0.5])[0] for run in (polled, pushed)]
    polled_s, pushed_s = map(_words, halves_s)
    title = f"Half of the changes are seen within {pushed_s} instead of {polled_s}"
    space = 'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 316"'
    parts = [
        f'<svg {space} role="img" aria-label="{title}">',
        f"<style>\n{STYLE}\n</style>",
        '<rect class="card" x="0.5" y="0.5" width="739" height="315" rx="6"/>',
        f'<text class="title" x="16" y="28">{title}</text>',
        '<text x="16" y="50">Share of the changes that a client has seen, by their age</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        y = _y(share)
        parts.append(f'<path class="grid" d="M{LEFT:g} {y:g}h{WIDTH:g}"/>')
        parts.append(
            f'<text x="{LEFT - 6:g}" y="{y + 4:g}" text-anchor="end">{100 * share:.0f} %</text>'
        )
    for at_s, name in TICKS.items():
        x = _x(at_s)
        parts.append(f'<path class="grid" d="M{x:g} {TOP:g}v{HEIGHT:g}"/>')
        parts.append(
            f'<text x="{x:g}" y="{TOP + HEIGHT + 18:g}" text-anchor="middle">{name}</text>'
        )
    parts.append(
        f'<text x="{LEFT + WIDTH / 2:g}" y="{TOP + HEIGHT + 38:g}" text-anchor="middle">'
        "time until a client has seen a change (log scale)</text>"
    )
    for run, half_s in zip((polled, pushed), halves_s, strict=True):
        points = [
            f"{_x(at_s):.1f} {_y(share):.1f}"
            for share, at_s in zip(SHARES, run.latency_quantiles(SHARES), strict=True)
        ]
        name = run.scenario.transport
        parts.append(f'<path class="line {name}" d="M{" L".join(points)}"/>')
        is_right = _x(half_s) > LEFT + WIDTH / 2
        x, anchor = (_x(half_s) - 12, "end") if is_right else (_x(half_s) + 14, "start")
        place = f'x="{x:.1f}" y="{_y(0.5) - 8:.1f}" text-anchor="{anchor}"'
        parts.append(f'<text class="{name}" {place}>{NAMES[name]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(at_s: float) -> float:
    inside = min(max(at_s, FROM_S), TO_S)
    return LEFT + WIDTH * math.log(inside / FROM_S) / math.log(TO_S / FROM_S)


def _y(share: float) -> float:
    return TOP + HEIGHT * (1.0 - share)


def _words(at_s: float) -> str:
    return f"{at_s * 1e3:.0f} ms" if at_s < 1.0 else f"{at_s:.1f} s"


def between_marks(text: str) -> str:
    """Return what stands between the marks of a text."""
    return text.partition(MARKS[0])[2].partition(MARKS[1])[0].strip()


def blocks(path: Path) -> list[str]:
    """Return the Python of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)


def main() -> None:
    """Write the table and the figure."""
    polled, pushed = runs()
    text = README.read_text(encoding="utf-8")
    old = between_marks(text)
    if not old:
        raise SystemExit(f"README.md: must have {MARKS[0]} and {MARKS[1]} around its table")
    README.write_text(text.replace(old, table(polled, pushed)), encoding="utf-8")
    FIGURE.write_text(figure(polled, pushed), encoding="utf-8")


if __name__ == "__main__":
    main()
