"""Every verb through its entry point: what it prints, as text and as JSON, and its exit code."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

import simlib as sl
from simlib.cli import main, program
from simlib.rollout.trials import check_plan

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "simlib.cli"]
SMALL = ["clients=20", "horizon_s=120", "warm_up_s=10", "cool_down_s=10", "ramp_s=5"]
TRIFLE = [part for pair in SMALL for part in ("--set", pair)]
OPTIONS = [*TRIFLE, "--engine", "simpy", "--quiet"]
FLAGGER = ["roll-out", "data/plans/flagger_canary.yaml", "matters", "-p", "flag.propagation=polled"]
STORM = """
transport = "websocket"
clients = 40
horizon_s = 180
ramp_s = 5
updates.rate_per_s = 0.1
server.handshake_s = 0.05
reconnect = { policy = "full_jitter", base_s = 5.0, cap_s = 20.0 }
faults = [{ kind = "restart", start_s = 60, length_s = 5 }]
"""


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """What a command line ends with, and prints to both streams."""
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def read(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """What a command line ends with, and its JSON, which has nothing that JSON does not know."""
    code, out, _ = said(capsys, *arguments, "--json")

    def refused(constant: str) -> None:
        raise AssertionError(f"not JSON: {constant}")

    found = json.loads(out, parse_constant=refused)
    assert {"verb", "warnings", "thresholds"} <= found.keys()
    return code, found


def test_the_program_is_installed_under_its_name():
    found = entry_points(group="console_scripts", name="simlib")
    assert [one.value for one in found] == ["simlib.cli:main"]


def test_its_help_names_every_verb_and_every_verb_has_an_example_that_is_its_own(capsys):
    code, out, _ = said(capsys, "--help")
    assert code == 0
    for name in program.commands:
        assert f"  {name} " in out
        code, shown, _ = said(capsys, name, "--help")
        assert code == 0
        assert re.search(rf"^ +simlib {name}", shown, re.M), name


def test_the_examples_of_rollouts_fit_their_boards():
    for name in ("roll-out", "rehearse"):
        command = program.commands[name]
        first = (command.epilog or "").splitlines()[2].split(" ", 4)
        _, verb, *arguments = shlex.split(" ".join(first))
        given = command.make_context(verb, arguments).params
        board = sl.Scenario.example(given["board"]).replace({"horizon_s": "2 h"})
        assert given["settings"] == ("horizon_s=2 h",)
        check_plan(sl.Plan.example(given["plan"]), board)


def test_help_loads_nothing_heavy():
    code = "import sys, simlib.cli; print([m for m in ('numba', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_simulate_is_the_function_of_that_name(capsys):
    code, found = read(capsys, "simulate", "matters", *OPTIONS, "-n", "2", "--seed", "3")
    assert code == 0
    board = sl.Scenario.example("matters").replace(
        {"clients": 20, "horizon_s": 120, "warm_up_s": 10, "cool_down_s": 10, "ramp_s": 5}
    )
    assert found["scenario"] == board.dump()
    runs = sl.replicate(board, 2, seed=3, engine="simpy", progress=False)
    table = sl.metrics.intervals(runs).set_index("quantity")
    shown = {row["quantity"]: row for row in found["metrics"]}
    assert shown.keys() == set(table.index[table["mean"].notna()])
    for name, row in shown.items():
        assert row["mean"] == table.loc[name, "mean"]
        assert (row["low"], row["replications"]) == (table.loc[name, "low"], 2)
    assert found["warnings"] == list(
        dict.fromkeys(warning.sentence for run in runs for warning in run.warnings)
    )


def test_a_limit_that_is_missed_ends_with_1(capsys):
    simulated = ["simulate", "matters", *OPTIONS, "-n", "3"]
    code, found = read(capsys, *simulated, "--need", "latency_p95_s<=1 min")
    assert (code, found["thresholds"][0]["is_kept"]) == (0, True)
    code, out, _ = said(capsys, *simulated, "--need", "latency_p95_s<=5 s", "--need", "lost<=0")
    assert code == 1
    assert "MISSED: latency_p95_s<=5 s; found 2" in out
    assert "kept: lost<=0" in out
    code, found = read(capsys, *simulated, "--need", "connection_count>=21")
    assert code == 1
    code, found = read(capsys, *simulated, "--need", "connection_wait_p95_s<=5")
    assert (code, found["thresholds"][0]["found"]) == (1, "it has no value here")


def test_saved_runs_are_read_back(capsys, tmp_path):
    code, _, _ = said(capsys, "simulate", "matters", *OPTIONS, "-n", "2", "--save", str(tmp_path))
    assert code == 0
    runs = [sl.Run.load(tmp_path / f"replication_{number}") for number in range(2)]
    assert [run.provenance["replication"] for run in runs] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "matters", "--set", "clents=5"], "did you mean clients?"),
        (["simulate", "matters", "--set", "clients"], "must be PATH=VALUE"),
        (["simulate", "matters", "--set", "clients=5", "--set", "clients=6"], "given once"),
        (["simulate", "matters", "--set", "clients="], "must be given"),
        (["simulate", "matters", "--need", "latency_p95_s=5"], "METRIC<=VALUE"),
        (["simulate", "matters", "--need", "latncy_p95_s<=5"], "did you mean latency_p95_s"),
        (["simulate", "matters", "--need", "latency_p95_s<=soon"], "metric's unit"),
        (["simulate", "matters", "--engine", "fast"], "must be one of auto, simpy, compiled"),
        (["simulate", "matters", "--library", "jquery"], "must be"),
        (["simulate", "matters", "-n", "1"], "1 is not in the range x>=2"),
        (["simulate", "nobody"], "must be a TOML file, or one of dashboard, fleet"),
        (["simulate", "nowhere.toml"], "must be an existing TOML file"),
        (["compare", "matters"], "settings that change the first"),
        (["compare", "matters", "matters", "--no-worse", "eligible=1"], "one direction"),
        (["compare", "matters", "matters", "--no-worse", "lost"], "must be METRIC=BY"),
        (["sweep", "matters", "--over", "clients="], "must be given"),
        (["sweep", "matters", "-o", "clients=5,6", "--metric", "speed"], "must be among"),
        (["roll-out", "nobody", "matters"], "must be a TOML file, or one of guide_as"),
        (["roll-out", "data/plans/flagger_canary.yaml", "matters"], "flag: must be given"),
        (["decide", "matters", "--need", "latency_p95_s=-1"], "must be > 0"),
        (["decide", "matters", "nowhere.toml"], "nowhere.toml: must be an existing TOML file"),
        (["audit", "matters", "--only", "no defect"], "no defect"),
        (["settings", "zzzz"], "zzzz"),
        (["serve", "nowhere"], "`simlib report` makes one"),
        (["serve", "nowhere"], "must be a folder"),
        (["report", "nowhere.ipynb"], "does not exist"),
        (["simulate", ""], "must be a TOML file, or one of"),
        (["simulate", "x" * 5000], "must be"),
        (["simulate", "matters", "--need", "latency_p95_s<=5%"], "metric's unit"),
        (["simulate", "matters", "--need", "utilisation<=nan"], "metric's unit"),
        (["simulate", "matters", "--need", "utilisation<=1e400%"], "metric's unit"),
        (["simulate", "matters", "--need", "<=5"], "METRIC<=VALUE"),
        (["simulate", "matters", "-s", "polling={}", "-s", "polling.interval_s=3"], "as a whole"),
        (["compare", "matters", "matters", "--no-worse", "lost=inf%"], "must be a percentage"),
        (["compare", "matters", "matters", "--no-worse", "lost=nan"], "metric's unit"),
        ([*FLAGGER, "-p", "path=3"], "path: must be no setting of a plan"),
        ([*FLAGGER, "--metric", "a=latency_p99_s,x"], "must be METRIC,FACTOR,ADDED"),
        ([*FLAGGER, "--webhook", "smoke=later"], "webhooks.smoke: must be pass, fail, wait"),
        ([*FLAGGER, "--webhook", "later"], "webhooks: must be pass, fail, wait"),
        ([*FLAGGER, "--metric", "a=lost", "-p", "metrics.x=3"], "metrics: must be no setting"),
        (["frobnicate"], "No such command"),
    ],
)
def test_a_bad_input_ends_with_2_and_says_what_would_be_right(
    capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(ROOT)
    code, out, err = said(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_presets_come_before_settings(capsys):
    given = [
        "--library",
        "socket.io-client",
        "--set",
        "reconnect.cap_s=7",
        "--set",
        "transport=websocket",
    ]
    _, found = read(capsys, "simulate", "matters", *OPTIONS, "-n", "2", *given)
    board = sl.Scenario.parse(found["scenario"])
    assert board.reconnect.policy == "socketio"
    assert board.reconnect.cap_s == 7.0


def test_compare_pairs_a_board_with_its_change(capsys):
    compared = ["compare", "matters", *OPTIONS, "--set", "transport=websocket", "-n", "3"]
    code, found = read(capsys, *compared, "--no-worse", "latency_p95_s=0")
    assert code == 0
    row = next(row for row in found["metrics"] if row["quantity"] == "latency_p95_s")
    assert row["high"] < 0
    assert row["pairs"] == 3


def test_a_setting_that_makes_a_storm_worse_fails_the_build_as_the_reference_shows(
    capsys, tmp_path, monkeypatch
):
    """The step of the workflow in data/reference.md, before and after a change for the worse."""
    page = (ROOT / "data" / "reference.md").read_text(encoding="utf-8")
    step = re.search(r"simlib compare before\.toml board\.toml (.+)", page)
    assert step is not None
    guard = ["--engine", "simpy", "--quiet", *step[1].replace("'", "").split()]
    monkeypatch.chdir(tmp_path)
    Path("before.toml").write_text(STORM, encoding="utf-8")
    Path("board.toml").write_text(STORM.replace('name = ""', ""), encoding="utf-8")
    code, out, _ = said(capsys, "compare", "before.toml", "board.toml", *guard)
    assert code == 0, out
    worse = STORM.replace("base_s = 5.0, cap_s = 20.0", "base_s = 0.1, cap_s = 0.1")
    Path("board.toml").write_text(worse, encoding="utf-8")
    code, out, _ = said(capsys, "compare", "before.toml", "board.toml", *guard)
    assert code == 1
    assert "MISSED: no worse" in out


def test_sweep_has_a_row_a_point(capsys, tmp_path):
    out = tmp_path / "table.csv"
    swept = ["sweep", "matters", *OPTIONS, "-n", "2", "-o", "transport=polling,websocket"]
    code, found = read(capsys, *swept, "--metric", "latency_p50_s", "--out", str(out))
    assert code == 0
    assert [row["transport"] for row in found["points"]] == ["polling", "websocket"]
    assert found["points"][0]["mean"] > 100 * found["points"][1]["mean"]
    assert "latency_p50_s" in out.read_text(encoding="utf-8")


def test_a_rollout_that_is_rolled_back_ends_with_1(capsys, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        "name = 'short'\ncheck_every_s = 10\n"
        "flag = { propagation = 'polled', every_s = 5 }\n"
        "stages = [{ percent = 50, bake_s = 30 }, { percent = 100, bake_s = 30 }]\n"
        "guardrails = [{ metric = 'latency_p95_s', below = 60.0 }]\n"
        "decision = { failures = 1 }\n",
        encoding="utf-8",
    )
    rolled = ["roll-out", str(plan), "matters", *OPTIONS]
    code, found = read(capsys, *rolled)
    assert (code, found["history"][-1]["event"]) == (0, "done")
    code, out, _ = said(capsys, *rolled, "-p", "guardrails=[{metric='latency_p95_s', below=1e-6}]")
    assert code == 1
    assert "MISSED: the plan comes to its end; its last look: rolled back" in out


def test_rehearse_holds_false_alarms_and_misses_against_limits(capsys, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        "check_every_s = 10\nflag = { propagation = 'polled', every_s = 5 }\n"
        "stages = [{ percent = 50, bake_s = 30 }, { percent = 100, bake_s = 30 }]\n",
        encoding="utf-8",
    )
    options = ["--false-frac", "0.9", "--miss-frac", "0.5"]
    code, found = read(capsys, "rehearse", str(plan), "matters", *OPTIONS, "-n", "2", *options)
    assert code == 1  # it has no guardrail
    kept = {one["threshold"]: one["is_kept"] for one in found["thresholds"]}
    assert kept.pop("healthy fleets rolled back: at most 90.0%")
    assert kept
    assert not any(kept.values())


def test_audit_and_decide(capsys, tmp_path):
    code, found = read(capsys, "audit", "matters", *OPTIONS, "-n", "2", "--only", "five attempts")
    assert (code, found["defects"][0]["as_written"]) == (0, 1.0)
    needs = tmp_path / "needs.toml"
    needs.write_text("latency_p95_s = 45\n", encoding="utf-8")
    decided = ["decide", "matters", str(needs), *OPTIONS, "-n", "3"]
    code, found = read(capsys, *decided)
    assert (code, found["best"] is None) == (0, False)
    code, found = read(capsys, *decided, "--need", "latency_max_s=1e-6")
    assert (code, found["kind"], found["best"]) == (1, "none", None)


def test_lint_says_all_that_is_wrong_with_every_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    good = ["data/scenarios/matters.toml", "data/plans/guide_as_written.toml"]
    assert said(capsys, "lint", *good)[:2] == (0, "2 files, no problem\n")
    bad = tmp_path / "bad.toml"
    bad.write_text("clents = 5\ntransport = 'smoke'\n", encoding="utf-8")
    code, found = read(capsys, "lint", *good, str(bad))
    assert code == 2
    assert {row["file"] for row in found["problems"]} == {str(bad)}
    assert len(found["problems"]) > 1
    code, out, _ = said(capsys, "lint", good[1], "--board", "matters")
    assert code == 2
    assert "must be over by the scenario's horizon_s" in out


def test_lint_reads_no_device(capsys):
    code, out, _ = said(capsys, "lint", "/dev/zero")
    assert code == 2
    assert "must be a regular file" in out


def test_decide_chooses_how_often_it_runs_unless_somebody_says_so(capsys, monkeypatch):
    given = []

    def noted(*_: object, **options: object) -> None:
        given.append(options["replications"])
        raise sl.Interrupted("nothing")

    monkeypatch.setattr("simlib.verdict.judging.decide", noted)
    for options in ([], ["-n", "7"]):
        said(capsys, "decide", "matters", "--need", "latency_p95_s=5", *options)
    assert given == [None, 7]


def test_settings_are_found_by_their_names_elsewhere(capsys):
    code, found = read(capsys, "settings", "refetchInterval")
    assert (code, found["settings"][0]["setting"]) == (0, "polling.interval_s")


def test_report_of_no_notebook_ends_with_1(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = said(capsys, "report")
    assert code == 1
    assert "no notebook found" in err


def test_completion_is_there_for_shells():
    environment = {**os.environ, "_SIMLIB_COMPLETE": "bash_source"}
    code = "from simlib.cli import program; program.main(prog_name='simlib')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert "complete" in done.stdout


def test_json_has_null_for_what_is_no_number():
    from simlib.cli.output import _plain

    assert _plain({"a": math.nan, "b": [math.inf, 1.5]}) == {"a": None, "b": [None, 1.5]}


def started(*arguments: str) -> subprocess.Popen[str]:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*PROGRAM, *arguments], text=True, **pipes)


def test_what_was_finished_at_an_interrupt_is_shown(capsys, monkeypatch):
    board = sl.Scenario.example("matters").replace(clients=20)
    table = sl.sweep(board, {"clients": [20]}, replications=2, engine="simpy", progress=False)

    def stopped(*_: object, **__: object) -> None:
        raise sl.Interrupted("2 of 20 runs were finished", table)

    monkeypatch.setattr("simlib.experiment.sweep", stopped)
    code, out, err = said(capsys, "sweep", "matters", "-o", "clients=20,30")
    assert code == 130
    assert "2 of 20 runs were finished" in err
    assert "latency_p95_s" in out


@pytest.mark.parametrize("verb", ["simulate", "measure"])
def test_an_interrupt_before_anything_was_finished_shows_nothing(capsys, monkeypatch, verb):
    def stopped(*_: object, **__: object) -> None:
        raise sl.Interrupted("0 of 5 runs were finished", [] if verb == "simulate" else None)

    monkeypatch.setattr("simlib.experiment.replicate", stopped)
    monkeypatch.setattr("simlib.live.measure", stopped)
    assert said(capsys, verb, "matters") == (130, "", "stopped: 0 of 5 runs were finished\n")


def test_a_table_that_cannot_be_written_is_printed_all_the_same(capsys):
    swept = ["sweep", "matters", *OPTIONS, "-n", "2", "-o", "polling.interval_s=3"]
    code, out, err = said(capsys, *swept, "--out", "/nowhere/table.csv")
    assert code == 2
    assert "latency_p95_s" in out
    assert "--out: must be a file that can be written" in err


@pytest.mark.slow
def test_ctrl_c_ends_a_verb_with_130():
    process = started("sweep", "matters", "-o", "clients=2000,3000", "-n", "400")
    assert process.stderr is not None
    assert process.stderr.read(1)  # its bar
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err


@pytest.mark.slow
def test_serve_serves_on_loopback_until_an_interrupt(tmp_path):
    (tmp_path / "index.html").write_text("<p>here</p>", encoding="utf-8")
    process = started("serve", str(tmp_path), "--port", "0")
    assert process.stdout is not None
    address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
    assert address is not None
    with urllib.request.urlopen(address[0], timeout=10) as answer:
        assert answer.read() == b"<p>here</p>"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 0
