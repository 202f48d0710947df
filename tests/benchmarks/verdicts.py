"""How stable the verdicts of `notebooks/09_decide.ipynb` are, and what turns them.

``python tests/benchmarks/verdicts.py [SEEDS]`` decides each of the four boards with `SEEDS` seeds
(20 by default): as it is, and with the assumption that turns its verdict below and above the
break-even that the first seed has, by the share `Case.beyond`. A need has to be kept by a whole
interval, and a candidate has to be better by more than noise, so that near a break-even seeds
differ. It writes ``data/measured/verdicts.csv``, a row per board, assumption and seed. Candidates
that are far from a board's best are left out, which saves three quarters of the runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

import simlib as sl
from simlib.verdict import Decision

ROOT = Path(__file__).parents[2]


class Case(NamedTuple):
    """A board, the candidates near its verdict, and what turns it, at which distance as a share."""

    board: str
    over: str
    candidates: tuple[str, ...]
    beyond: float
    changes: Mapping[str, object] = MappingProxyType({})
    rival: str | None = None


CASES = (
    Case(
        "matters",
        "needs.latency_p95_s",
        ("poll_compressed", "push_fallback", "sse", "sse_fallback", "long_polling"),
        0.1,
    ),
    Case(
        "product",
        "needs.missed_frac",
        ("notify_spread", "push", "push_fallback", "sse_fallback"),
        0.5,
    ),
    Case(
        "dashboard",
        "updates.rate_per_s",
        ("poll_cached", "poll_compressed", "push", "sse", "sse_fallback"),
        0.25,
        rival="push",
    ),
    Case(
        "fleet",
        "needs.latency_p95_s",
        ("poll_longer", "notify", "sse_notify", "long_polling"),
        0.1,
        {
            "clients": 10_000,
            "server.nodes": 3,
            "horizon_s": "20 min",
            "updates.publish_s": [600.0],
        },
    ),
)


def decided(case: Case, seed: int, settings: dict[str, float] | None = None) -> Decision:
    """Decide a board, perhaps with other settings."""
    scenario = sl.Scenario.load(ROOT / f"data/scenarios/{case.board}.toml").replace(case.changes)
    needs = sl.Needs.load(ROOT / f"data/needs/{case.board}.toml")
    options = {"candidates": list(case.candidates), "progress": False}
    return sl.decide(scenario.replace(settings or {}), needs, seed=seed, **options)


def shifted(case: Case, plain: Decision, value: float) -> Decision:
    """Decide a board again with another value of the assumption; needs ask for no run."""
    if not case.over.startswith("needs."):
        return decided(case, plain.asked.seed, {case.over: value})
    return plain.with_needs(plain.asked.needs.replace({case.over.removeprefix("needs."): value}))


def main(seeds: int) -> pd.DataFrame:
    """Decide every board with every seed; return the table that is written."""
    rows = []
    for case in CASES:
        of_first = decided(case, 1)
        found = sl.verdict.break_even(of_first, case.over, other=case.rival)
        value = float(found["value"].iloc[0])
        shifts = {"as it is": None, "below": 1.0 - case.beyond, "above": 1.0 + case.beyond}
        for seed in tqdm(range(1, seeds + 1), desc=case.board):
            plain = decided(case, seed)
            for shift, factor in shifts.items():
                one = plain if factor is None else shifted(case, plain, value * factor)
                rows.append(
                    {
                        "board": case.board,
                        "over": case.over,
                        "break_even": value,
                        "shift": shift,
                        "by": 0.0 if factor is None else factor - 1.0,
                        "seed": seed,
                        "best": one.best or "none",
                        "kind": one.kind,
                    }
                )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    table = main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    table.to_csv(ROOT / "data/measured/verdicts.csv", index=False, float_format="%.4g")
    said = table.groupby(["board", "over", "break_even", "shift"])["best"].value_counts()
    sys.stdout.write(f"{said.to_string()}\n")
