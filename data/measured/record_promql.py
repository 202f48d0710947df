"""Record what Prometheus answers to queries on generated series: `promql.json`.

``python data/measured/record_promql.py [PROMTOOL]`` draws series as a monitor scrapes them
(counters that start above zero, late or anew, gaps, failed scrapes, histograms), has `promtool test
rules` evaluate expressions at some times, and writes series, expressions and answers. Debian's
package ``prometheus`` has promtool. `tests/monitoring/test_promql.py` compares them with
`simlib.monitoring.promql`, and draws others where promtool is installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

Series = dict[str, list[tuple[int, float | None]]]
END_S = 900
EXPRESSIONS = 480
BUCKETS = {
    "client": (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    "own": (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0),
}
WINDOWS = ("20s", "30s", "45s", "1m", "90s", "2m", "5m")
OVER_TIME = ("avg", "sum", "min", "max", "count", "last")
TRANSPORTS, COHORTS = ("polling", "websocket"), ("control", "treatment")
_GOT = re.compile(r'expr: (".*"), time: (.*),\n\s+exp:.*\n\s+got:(.*)')
_LABELED = re.compile(r"(\{.*?\}|[a-z_]+(?:\{.*?\})?) ([-+.0-9EINafn]+)(?:, |$)")


def times_of(draws: np.random.Generator, phase: int) -> list[tuple[int, bool]]:
    """Return when a target is scraped, seconds, and whether each scrape fails.

    Each target has its own phase: sums are added up in the order in which series begin, and of
    those that begin together promtool has no order that stays.
    """
    every_s = int(draws.choice([10, 15, 15, 15, 30]))
    start = int(draws.choice([0, 0, 0, 200, 500]))
    times = np.arange(start + phase, END_S, every_s)
    failing = draws.random(len(times)) < draws.choice([0.0, 0.0, 0.05, 0.2])
    if draws.random() < 0.3:  # away for a while
        gone = int(draws.integers(100, 700))
        failing |= (times > gone) & (times < gone + draws.choice([40, 120, 400]))
    failing[0] = False
    return list(zip(times.tolist(), failing.tolist(), strict=True))


def counter(draws: np.random.Generator, times: list[tuple[int, bool]]) -> list[Any]:
    """Return the samples of a counter; a process that starts anew counts from 0."""
    value = float(draws.choice([0.0, 0.0, 40.0, 1e6]))
    rate, resets = float(draws.choice([0.02, 0.5, 7.3])), draws.random() < 0.4
    found: list[Any] = []
    before, was_there = 0, False
    for t_s, fails in times:
        if resets and draws.random() < 0.04:
            value = 0.0
        value += float(draws.poisson(rate * (t_s - before))) if t_s > before else 0.0
        before = t_s
        if fails and was_there:
            found.append((t_s, None))
        elif not fails:
            found.append((t_s, value))
        was_there = not fails
    return found


def series(draws: np.random.Generator) -> Series:
    """Return series by their names and labels."""
    found: Series = {}
    phases = iter(draws.permutation(16).tolist())
    for transport in TRANSPORTS:
        for cohort in COHORTS:
            for instance in "abc":
                times = times_of(draws, next(phases))
                labels = f'cohort="{cohort}", instance="{instance}", transport="{transport}"'
                for name in ("polls_total", "errors_total", "reconnects_total"):
                    if name == "errors_total" and draws.random() < 0.3:
                        continue  # nothing has failed yet: there is no series
                    found[f"{name}{{{labels}}}"] = counter(draws, times)
                gauge = draws.normal(100.0, 30.0, len(times)).round(3)
                found[f"connections{{{labels}}}"] = [
                    (t_s, None if fails else float(level))
                    for (t_s, fails), level in zip(times, gauge, strict=True)
                    if not fails or t_s > times[0][0]
                ]
        kind = "own" if transport == "polling" else "client"
        for cohort in COHORTS:
            labels = f'cohort="{cohort}"'
            times = times_of(draws, next(phases))
            found |= histogram(draws, times, labels, f"{transport}_seconds", BUCKETS[kind])
    return found


def histogram(
    draws: np.random.Generator,
    times: list[tuple[int, bool]],
    labels: str,
    name: str,
    edges: tuple[float, ...],
) -> Series:
    """Return the buckets of a histogram of waits."""
    scale = float(draws.choice([0.05, 2.0, 20.0]))
    found: Series = {f'{name}_bucket{{{labels}, le="{e}"}}': [] for e in (*edges, "+Inf")}
    counts = np.zeros(len(edges) + 1)
    before, was_there = 0, False
    for t_s, fails in times:
        waits = draws.exponential(scale, int(draws.poisson(0.4 * (t_s - before))))
        counts += [float((waits <= edge).sum()) for edge in (*edges, np.inf)]
        before = t_s
        for one, count in zip(found.values(), counts.tolist(), strict=True):
            if not fails:
                one.append((t_s, count))
            elif was_there:
                one.append((t_s, None))
        was_there = not fails
    return found


def expressions(draws: np.random.Generator, names: list[str]) -> list[tuple[str, float]]:
    """Return expressions, and the times at which they are asked, seconds."""
    found = []
    for _ in range(EXPRESSIONS):
        w, v = draws.choice(WINDOWS, 2)
        x, y = draws.choice(["polls_total", "errors_total", "reconnects_total"], 2)
        one, other = (str(draws.choice(names)) for _ in range(2))
        q, h = (
            draws.choice([0.5, 0.9, 0.95, 0.99]),
            draws.choice([f"{t}_seconds" for t in TRANSPORTS]),
        )
        cohort, over = draws.choice(COHORTS), draws.choice(OVER_TIME)
        errors, polls = (
            f'sum(rate({of}_total{{cohort="{cohort}"}}[{w}]))' for of in ("errors", "polls")
        )
        text = draws.choice(
            [
                f"rate({one}[{w}])",
                f"increase({one}[{w}])",
                f"irate({one}[{w}])",
                f"delta(connections[{w}])",
                f"sum(rate({x}[{w}]))",
                f"sum by (cohort) (increase({x}[{w}]))",
                f"sum without (instance) (rate({x}[{w}] offset 1m))",
                f"{errors} / {polls}",
                f"1 - sum(rate(errors_total[{w}])) / sum(rate(polls_total[{w}]))",
                f"rate(errors_total[{w}]) / rate(polls_total[{w}]) > bool 0.01",
                f"histogram_quantile({q}, sum by (le) (rate({h}_bucket[{w}])))",
                f"histogram_quantile({q}, sum by (le, cohort) (increase({h}_bucket[{w}])))",
                f"histogram_quantile({q}, rate({h}_bucket[{w}]))",
                f"{one}",
                f"{one} offset 30s",
                "avg(connections)",
                "min by (transport) (connections)",
                "max(connections) - min(connections)",
                'count(connections{instance=~"a|b", transport!="polling"})',
                f"{over}_over_time({one}[{w}])",
                f"resets({one}[{w}]) + changes({one}[{v}])",
                f"absent({one})",
                'absent(nothing{a="1", b!="2"})',
                f"rate({x}[{w}]) and on (cohort) (rate({y}[{v}]) > 0.5)",
                f"sum by (cohort) (rate({x}[{w}])) or vector(0)",
                f"rate({x}[{w}]) unless rate({y}[{v}]) == 0",
                f"sum(rate({x}[{w}])) / scalar(sum(rate({y}[{v}])))",
                f"clamp_min(rate({one}[{w}]) - 0.3, 0)",
                f"clamp_max(abs(delta({other}[{w}])), 5) ^ 0.5",
                f"-rate({one}[{w}]) % 0.1",
                f"vector(0) / sum(rate({x}[{w}]))",
                f"({errors} or vector(0)) / {polls} <= 0.02",
            ]
        )
        # Edges of windows are met, too: most times are whole seconds.
        t_s = float(draws.integers(60, END_S + 400)) + float(draws.choice([0.0, 0.0, 0.5, 0.001]))
        found.append((str(text), t_s))
    return found


def answers(promtool: str, of: Series, asked: list[tuple[str, float]]) -> list[list[list[Any]]]:
    """Return what Prometheus answers: pairs of labels and values, as it prints them."""
    lines = ["evaluation_interval: 1s", "tests:", "  - interval: 1s", "    input_series:"]
    for name, samples in of.items():
        values = ["_"] * (max(t for t, _ in samples) + 1 if samples else 1)
        for t_s, value in samples:
            values[t_s] = "stale" if value is None else repr(value)
        lines += [
            f"      - series: {json.dumps(name)}",
            f"        values: {json.dumps(' '.join(values))}",
        ]
    lines.append("    promql_expr_test:")
    for text, t_s in asked:
        lines += [f"      - expr: {json.dumps(text)}", f"        eval_time: {round(1000 * t_s)}ms"]
        lines.append("        exp_samples: [{labels: never, value: -1}]")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "asked.yaml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        done = subprocess.run(
            [promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False
        )
    got = _GOT.findall(done.stdout + done.stderr)
    if len(got) != len(asked):
        raise RuntimeError(f"{len(got)} answers to {len(asked)} queries: {done.stderr[-500:]}")
    found = []
    for (text, _), (expr, _, said) in zip(asked, got, strict=True):
        assert json.loads(expr) == text, (expr, text)
        found.append(
            [] if said.strip() == "nil" else [list(p) for p in _LABELED.findall(said.strip())]
        )
    return found


def main(promtool: str) -> None:
    """Draw, ask and write."""
    draws = np.random.default_rng(1)
    of = {name: samples for name, samples in series(draws).items() if samples}
    asked = expressions(draws, list(of))
    version = subprocess.run([promtool, "--version"], capture_output=True, text=True, check=True)
    kept = {
        "promtool": (version.stdout + version.stderr).split(" (")[0],
        "series": of,
        "asked": [
            [text, t_s, answer]
            for (text, t_s), answer in zip(asked, answers(promtool, of, asked), strict=True)
        ],
    }
    path = Path(__file__).with_name("promql.json")
    path.write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "promtool")
