"""Golden digests: what the engines made of 472 recorded inputs, as SHA-256 of every column.

Tests that compare the two engines cannot see a change of what both share; these digests can.
``data/golden`` holds the inputs (``pairs``, ``scenarios`` and ``rollouts``, a case on each line)
and ``digests.json``, made of the values of all tables, not of their names:

* ``python -m tests.golden`` records the digests anew; both engines must give the same.
* ``python -m tests.golden --check`` says which cases and columns have moved since.
* ``python -m tests.golden --draw`` draws the inputs anew as well, which is hardly ever wanted.

Where a table, a column or a text in it gets another name, `RENAMED` says so and the digests stay.
Tables, columns and figures that come later are not compared until the digests are recorded anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import simlib as sl

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "data" / "golden"
DIGESTS = GOLDEN / "digests.json"
GROUPS = ("pairs", "scenarios", "rollouts")
ENGINES = ("simpy", "compiled")

RENAMED: dict[str, str] = {
    "stays": "exposures",
    "events.event=told": "assigned",
    "events.actions=ask": "safety_poll",
    "diary.what": "event",
    "diary.what=begun": "started",
    "diary.what=good": "passed",
    "diary.what=held": "inconclusive",
    "diary.what=back": "rolled_back",
    "diary.what=stopped": "paused",
}
"""Recorded names and what has become of them: ``{"diary": "log"}`` for a table,
``{"diary.what": "event"}`` for a column, ``{"diary.what=begun": "started"}`` for a text in it. Keys
are made of recorded names alone."""

RENAMED_KEYS = {"throttles_timers": "timer_throttling", "reach": "propagation"}
"""Recorded keys of scenarios and plans, and what they are called now."""

RENAMED_VALUES = {("etag", False): "off", ("etag", True): "content"}
"""Recorded switches that have become words."""

KEPT = ("deliveries", "events")
TABLES = ("timeline", "clients", "latency", "connections", "stays", *KEPT)
LEFT_OUT = {"summary.source"}
"""Columns that say who made the run."""

Digests = dict[str, dict[str, bytes]]
"""Table, column, digest of its values: all by recorded names."""


# -- inputs -----------------------------------------------------------------------------------


def read_cases(group: str) -> list[dict[str, Any]]:
    """Return a group's cases: their name, scenario, seed, replication, and plan of a rollout."""
    text = (GOLDEN / f"{group}.jsonl").read_text(encoding="utf-8")
    base, *cases = (
        json.loads(line, object_pairs_hook=_by_present_names) for line in text.splitlines()
    )
    for case in cases:
        case["scenario"] = sl.Scenario(**_with(base["scenario"], case["scenario"]))
        if "plan" in case:
            case["plan"] = sl.Plan(**case["plan"])
    return cases


def _by_present_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        RENAMED_KEYS.get(key, key): RENAMED_VALUES.get((key, value), value)
        if isinstance(value, bool)
        else value
        for key, value in pairs
    }


def _with(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    values = {**base, **changes}
    for name in base.keys() & changes.keys():
        if isinstance(base[name], dict):
            values[name] = {**base[name], **changes[name]}
    return values


def _changes(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """What `_with` needs to make `values` of `base`; None for what is not there."""
    changes = {name: None for name in base if name not in values}
    for name, value in values.items():
        if isinstance(value, dict) and name in base:
            value = _changes(base[name], value) or base[name]
        if name not in base or value != base[name]:
            changes[name] = value
    return changes


def draw() -> None:
    """Draw the inputs and write them."""
    drawn = {"pairs": _draw_pairs(), "scenarios": _draw_scenarios(), "rollouts": _draw_rollouts()}
    # Written out, so that another default later on does not change the cases.
    base = tomllib.loads(sl.Scenario(updates={"rate_per_s": 0.5}).dump())
    GOLDEN.mkdir(exist_ok=True)
    for group, cases in drawn.items():
        lines: list[dict[str, Any]] = [{"scenario": base}]
        for case in cases:
            changes = _changes(base, tomllib.loads(case["scenario"].dump()))
            line = {**case, "scenario": changes}
            if "plan" in case:
                line["plan"] = tomllib.loads(case["plan"].dump())
            lines.append(line)
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        (GOLDEN / f"{group}.jsonl").write_text(text, encoding="utf-8")
        assert read_cases(group) == cases


def _draw_pairs() -> list[dict[str, Any]]:
    from tests.engines.test_compiled_engine import PAIRS, board_of

    return [
        {
            "case": "-".join([*pair, transport]),
            "seed": 0,
            "replication": 0,
            "scenario": board_of(pair, transport),
        }
        for pair in PAIRS
        for transport in ("polling", "websocket")
    ]


def _draw_scenarios() -> list[dict[str, Any]]:
    from tests.strategies import scenarios

    return _drawn("scenario", scenarios().map(lambda scenario: {"scenario": scenario}), 300)


def _draw_rollouts() -> list[dict[str, Any]]:
    from hypothesis import reject
    from hypothesis import strategies as st

    from tests.engines.test_compiled_engine import LATTICE
    from tests.strategies import scenarios

    services = ("accept_s", "poll_s", "handshake_s", "authenticate_s", "fan_out_s", "send_s")
    ties = {**LATTICE, **{f"server.{name}": 0.5 for name in services}}

    @st.composite
    def rollouts(draw) -> dict[str, Any]:
        scenario, plan = draw(scenarios()), draw(_plans())
        if draw(st.booleans()):
            scenario = scenario.replace(ties)
        try:
            found = sl.Plan(**plan)
        except sl.ScenarioError:
            reject()
        watches = {guardrail.metric for guardrail in found.guardrails}
        if found.start_s + found.length_s > scenario.horizon_s:
            reject()
        if "fallback_to_polling_frac" in watches and scenario.fallback is None:
            reject()
        return {"scenario": scenario, "plan": found}

    return _drawn("rollout", rollouts(), 100)


def _plans() -> Any:
    """A strategy for plans of every kind that are over in a minute, some of them impossible."""
    from hypothesis import strategies as st

    GUARDRAILS = [
        {"metric": "down_bytes_per_h", "below": 1.0},
        {"metric": "average_latency_s", "below": 0.001, "no_data": "pass"},
        {"metric": "latency_p50_s", "below": 0.01, "no_data": "fail"},
        {"metric": "latency_p95_s", "below": 0.05, "no_data": "pass"},
        {"metric": "average_latency_s", "below": 1.0, "fails_beyond": 5.0, "no_data": "pass"},
        {"metric": "error_rate_per_h", "below": 1.0, "delay_s": 2.0, "no_data": "pass"},
        {"metric": "reconnection_rate_per_h", "times_control": 1.5, "no_data": "fail"},
        {"metric": "fallback_to_polling_frac", "below": 0.2, "no_data": "fail"},
        {"metric": "down_bytes_per_h", "times_control": 0.1, "no_data": "pass"},
        {"metric": "utilisation", "below": 0.1},
        {"metric": "memory_bytes", "below": 100_000.0},
        {"metric": "average_latency_s", "judge": "sequential", "no_data": "pass"},
        {"metric": "latency_p50_s", "judge": "mann_whitney", "no_data": "pass"},
    ]
    FLAGS = st.one_of(
        st.fixed_dictionaries(
            {
                "propagation": st.sampled_from(["session", "build"]),
                "delay_s": st.sampled_from([0.5, 3.0]),
                "cached_frac": st.sampled_from([0.0, 0.5, 1.0]),
            }
        ),
        st.fixed_dictionaries(
            {
                "propagation": st.just("polled"),
                "every_s": st.sampled_from([0.5, 7.0, 30.0]),
                "delay_s": st.sampled_from([0.0, 3.0]),
                "jitter_s": st.sampled_from([0.0, 4.0]),
            }
        ),
        st.fixed_dictionaries(
            {
                "propagation": st.just("pushed"),
                "delay_s": st.sampled_from([0.0, 3.0]),
                "jitter_s": st.sampled_from([0.0, 4.0]),
            }
        ),
    )
    DECISIONS = st.one_of(
        st.fixed_dictionaries({"failures": st.integers(1, 3)}),
        st.fixed_dictionaries(
            {
                "rule": st.just("argo"),
                "failures": st.integers(-1, 2),
                "inconclusive": st.sampled_from([0, 5]),
                "analysis": st.sampled_from(["step", "background"]),
            }
        ),
    )
    ROLLBACKS = st.sampled_from(
        [
            {},
            {"sockets": "closed"},
            {"sockets": "drained", "window_s": 5.0},
            {"percents": [20.0, 0.0], "every_s": 2.5},
            {"percents": [50.0, 10.0, 0.0], "every_s": 1.0, "sockets": "closed"},
        ]
    )

    @st.composite
    def plans(draw) -> dict[str, Any]:
        check_every_s = draw(st.sampled_from([1.0, 2.5, 5.0]))
        percent = st.sampled_from([10.0, 30.0, 50.0, 100.0])
        percents = sorted(draw(st.lists(percent, min_size=1, max_size=3)))
        stage = st.fixed_dictionaries(
            {
                "bake_s": st.sampled_from([check_every_s, 2.0 * check_every_s]),
                "gate_s": st.sampled_from([0.0, 0.0, 1.0]),
            }
        )
        plan = {
            "start_s": draw(st.sampled_from([0.0, 1.0, 2.0, 7.5])),
            "check_every_s": check_every_s,
            "stages": [{"percent": each, **draw(stage)} for each in percents],
            "bucketing": {
                "rule": draw(st.sampled_from(["guide", "floor_mod", "unleash", "growthbook"])),
                "ids": draw(st.sampled_from(["uuid4", "email", "number"])),
            },
            "flag": draw(FLAGS),
            "rollback": draw(ROLLBACKS),
            "decision": draw(DECISIONS),
            "guardrails": draw(st.lists(st.sampled_from(GUARDRAILS), min_size=1, max_size=3)),
        }
        kill_s = draw(st.sampled_from([*[None] * 5, 6.0, 12.0]))
        return plan if kill_s is None else {**plan, "kill_s": kill_s}

    return plans()


def _drawn(name: str, strategy: Any, count: int) -> list[dict[str, Any]]:
    """Different cases, each with a seed and a replication; most of them are eventful."""
    from hypothesis import HealthCheck, Phase, given, settings

    found: dict[str, dict[str, Any]] = {}

    @settings(
        max_examples=10 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(value=strategy)
    def collect(value):
        # By a large odd number, so that seeds lie everywhere in [0, 2**64).
        address = {"seed": len(found) * 0x9E3779B97F4A7C15 % 2**64, "replication": len(found) % 3}
        found.setdefault(repr(value), {**address, **value})

    collect()
    groups: dict[str, list[dict[str, Any]]] = {"quiet": [], "eventful": [], "back": []}
    for case in found.values():
        groups[_kind_of(case)].append(case)
    # What hypothesis finds last differs most from the simplest, which it begins with.
    quiet, back = groups["quiet"][-(count // 10) :], groups["back"][-(count // 2) :]
    chosen = quiet + back + groups["eventful"][len(quiet) + len(back) - count :]
    assert len(chosen) == count
    return [{"case": f"{name}-{number:03}", **case} for number, case in enumerate(chosen)]


def _kind_of(case: dict[str, Any]) -> str:
    """Whether something is delivered; of a rollout, to both cohorts, and whether it goes back."""
    options = {name: case[name] for name in ("seed", "replication")}
    options |= {"engine": "compiled", "progress": False}
    if "plan" not in case:
        run = sl.simulate(case["scenario"], **options)
        return "eventful" if run.ledger.delivered else "quiet"
    run, history = sl.roll_out(case["plan"], case["scenario"], **options)[:2]
    if not run.ledger.delivered or run.frame("exposures")["cohort"].nunique() < 2:
        return "quiet"
    return "back" if "rolled_back" in set(history["event"]) else "eventful"


# -- digests ----------------------------------------------------------------------------------


def digests_of(case: dict[str, Any], engine: str) -> Digests:
    """Run a case and return the digest of each column."""
    options = {name: case[name] for name in ("seed", "replication")}
    options |= {"engine": engine, "keep": KEPT, "progress": False}
    tables: dict[str, pd.DataFrame] = {}
    if "plan" in case:
        rollout = sl.roll_out(case["plan"], case["scenario"], **options)
        run = rollout.run
        tables["diary"] = rollout.history
    else:
        run = sl.simulate(case["scenario"], **options)
    for name in TABLES:
        try:
            tables[name] = run.frame(RENAMED.get(name, name))
        except sl.ScenarioError:
            continue  # not every run has every table; one that was recorded is missed later
    tables["summary"] = run.metrics()
    tables["ledger"] = pd.DataFrame([run.ledger._asdict()])
    return {name: _digests_of_table(name, table) for name, table in tables.items()}


def _digests_of_table(name: str, table: pd.DataFrame) -> dict[str, bytes]:
    columns = _recorded_names(f"{name}.")
    digests = {}
    for now in table.columns:
        path = f"{name}.{columns.get(now, now)}"
        if path not in LEFT_OUT:
            digests[columns.get(now, now)] = digest(table[now], _recorded_names(f"{path}="))
    return digests


def _recorded_names(head: str) -> dict[str, str]:
    """From a name now to the recorded one, of those whose recorded paths begin with `head`."""
    found = {old.removeprefix(head): new for old, new in RENAMED.items() if old.startswith(head)}
    return {new: old for old, new in found.items() if "=" not in old}


def digest(column: pd.Series, recorded_texts: dict[str, str] | None = None) -> bytes:
    """Return the SHA-256 of a column's values, whatever their width.

    Examples
    --------
    >>> digest(pd.Series([1, 2], dtype="int32")) == digest(pd.Series([1, 2]))
    True
    >>> digest(pd.Series(["a"]).astype("category")) == digest(pd.Series(["b"]), {"b": "a"})
    True
    >>> digest(pd.Series([0.0])) == digest(pd.Series([-0.0]))
    False
    """
    if pd.api.types.is_float_dtype(column.dtype):
        values = column.to_numpy(np.float64, copy=True)
        values[np.isnan(values)] = np.nan  # its sign and payload are up to the processor
        content = values.astype("<f8").tobytes()
    elif pd.api.types.is_integer_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        content = column.to_numpy(np.int64).astype("<i8").tobytes()
    else:
        texts = recorded_texts or {}
        content = "\0".join(texts.get(text, text) for text in map(str, column)).encode()
    return hashlib.sha256(f"{len(column)}\n".encode() + content).digest()


def collected(group: str, engine: str, recorded: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a group's cases and return its digests.

    Parameters
    ----------
    group : str
        One of `GROUPS`.
    engine : str
        One of `ENGINES`.
    recorded : dict, optional
        Digests whose columns are the ones to be read; absent: all there are.

    Returns
    -------
    dict
        ``columns``: table, column, SHA-256 over all cases in order; ``cases``: case, the first 16
        digits of the SHA-256 over all its columns in order.
    """
    cases = read_cases(group)
    found = {case["case"]: digests_of(case, engine) for case in cases}
    tables = recorded["columns"] if recorded else next(iter(found.values()))
    paths = [(table, column) for table, columns in tables.items() for column in columns]
    over_cases: dict[str, dict[str, str]] = {table: {} for table in tables}
    for table, column in paths:
        parts = [digests.get(table, {}).get(column, b"gone") for digests in found.values()]
        over_cases[table][column] = hashlib.sha256(b"".join(parts)).hexdigest()
    over_columns = {}
    for case, digests in found.items():
        parts = [digests.get(table, {}).get(column, b"gone") for table, column in paths]
        over_columns[case] = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    return {"columns": over_cases, "cases": over_columns}


def figures() -> dict[str, list[str]]:
    """Return the digests of the figures in the committed notebooks, without those of live cells."""
    from simlib.publish.notebook import PLOTLY_MIME
    from simlib.publish.notebook import digest as description

    found = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [
            output
            for cell in cells
            if "nbval-ignore-output" not in cell["metadata"].get("tags", [])
            for output in cell.get("outputs", [])
        ]
        drawn = [output["data"][PLOTLY_MIME] for output in outputs if _is_figure(output)]
        texts = [description(figure) for figure in drawn]
        found[path.name] = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
    return found


def _is_figure(output: dict[str, Any]) -> bool:
    from simlib.publish.notebook import PLOTLY_MIME

    return PLOTLY_MIME in output.get("data", {})


# -- recording and comparing ------------------------------------------------------------------


def read_digests() -> dict[str, Any]:
    return json.loads(DIGESTS.read_text(encoding="utf-8"))


def record() -> list[str]:
    """Write the digests, unless the engines disagree; return in what they do."""
    fresh: dict[str, Any] = {}
    differences = []
    for group in GROUPS:
        fresh[group] = collected(group, "simpy")
        other = collected(group, "compiled", fresh[group])
        differences += [f"engines differ: {line}" for line in _moved(group, fresh[group], other)]
    if not differences:
        fresh["figures"] = figures()
        DIGESTS.write_text(json.dumps(fresh, indent=1) + "\n", encoding="utf-8")
    return differences


def moved(group: str, engine: str) -> list[str]:
    """Return the columns and the cases of a group whose digests are not the recorded ones."""
    recorded = read_digests()[group]
    return _moved(group, recorded, collected(group, engine, recorded))


def _moved(group: str, recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    columns = [
        f"{group}: column {table}.{column}"
        for table, columns in recorded["columns"].items()
        for column, value in columns.items()
        if now["columns"][table][column] != value
    ]
    cases = [
        f"{group}: case {case}"
        for case in recorded["cases"] | now["cases"]
        if recorded["cases"].get(case) != now["cases"].get(case)
    ]
    return columns + cases


def moved_figures() -> list[str]:
    """Return the recorded figures that are in the notebooks no more."""
    now, lines = figures(), []
    for notebook, recorded in read_digests()["figures"].items():
        left = Counter(now.get(notebook, []))
        for number, value in enumerate(recorded, start=1):
            left[value] -= 1
            if left[value] < 0:
                lines.append(f"{notebook}: figure {number}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="Record the golden digests, or compare with them.")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--draw", action="store_true", help="draw the inputs anew first")
    parser.add_argument("--engine", choices=ENGINES, help="with --check: this engine alone")
    options = parser.parse_args()
    if options.check and options.draw:
        parser.error("--draw has no meaning with --check")
    if options.check:
        lines = []
        for engine in [options.engine] if options.engine else ENGINES:
            for group in GROUPS:
                lines += [f"{engine}: {line}" for line in moved(group, engine)]
        lines += moved_figures()
    else:
        if options.draw:
            draw()
        lines = record()
    print("\n".join(lines) if lines else "as recorded" if options.check else "recorded")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
