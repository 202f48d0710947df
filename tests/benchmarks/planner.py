"""How long the lab's planner takes for one move: until the figure follows, and until the verdict.

By hand, on a quiet machine, with compiled loops::

    .venv/bin/python tests/benchmarks/planner.py

A move is of the polling interval, so that today's and the candidate's runs are simulated anew. What
a browser takes to draw comes on top.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import simlib as sl
from simlib.lab import panels
from simlib.lab.answers import Answers

MOVES = 20
CLIENTS = [1000, 10_000, 50_000]
CANDIDATES = ["push_fallback", "notify"]


def moves_of(clients: int, candidate: str) -> tuple[list[float], list[float], list[float]]:
    """Return seconds until the figure follows, until the verdict is there, and of processors."""
    needs = sl.Needs(latency_p95_s=5.0, utilisation=0.7, back_s=60.0)
    board = sl.Scenario.example("matters").replace(
        {"clients": clients, "server.max_connections": 100_000}
    )
    answers = Answers(needs, 1)
    figure = panels.empty()
    figures, verdicts, used = [], [], []
    for move in range(MOVES + 1):
        moved = board.replace({"polling.interval_s": 20.0 + move})
        began_s, busy_s = time.perf_counter(), time.process_time()
        for answer in answers.of(moved, candidate):
            panels.redraw(figure, panels.move_of(answer.drawn))
            if answer.decision is None:
                figures.append(time.perf_counter() - began_s)
            else:
                answer.decision._repr_html_()
        verdicts.append(time.perf_counter() - began_s)
        used.append(time.process_time() - busy_s)
    return figures[1:], verdicts[1:], used[1:]  # the first one loads code


def main(sizes: list[int]) -> None:
    """Print median and 95 % of each size, ms."""
    print("candidate clients | figure: median, 95 % | verdict: median, 95 % | processors: median")
    for candidate in CANDIDATES:
        for clients in sizes:
            found = moves_of(clients, candidate)
            said = [f"{1e3 * np.quantile(one, q):.0f}" for one in found[:2] for q in (0.5, 0.95)]
            print(candidate, clients, *said, f"{1e3 * np.median(found[2]):.0f}", flush=True)


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or CLIENTS)
