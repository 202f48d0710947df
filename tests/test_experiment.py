"""Sweeps: the same table wherever they run, whatever interrupts them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import psutil
import pytest

import simlib as sl
from simlib import experiment, theory
from simlib.analysis import metrics
from simlib.errors import RunFileError, ScenarioError
from simlib.store import Store

BOARD = sl.Scenario(updates={"rate_per_s": 0.2}, clients=20, horizon_s=200.0)
OVER = {"transport": ["polling", "websocket"], "polling.interval_s": [10, 30]}


def swept(**options):
    options = {"engine": "compiled", "progress": False} | options
    return sl.sweep(BOARD, OVER, replications=3, **options)


@pytest.fixture(scope="module")
def serial():
    return swept(on="serial")


def test_a_sweep_is_one_tidy_table_with_intervals(serial):
    columns = ["polling.interval_s", "transport", "cohort", "quantity"]
    assert list(serial) == [*columns, "mean", "low", "high", "replications", "warnings"]
    assert len(serial) == 4 * len(metrics.QUANTITIES)
    assert serial["quantity"].drop_duplicates().tolist() == list(metrics.QUANTITIES)
    assert (serial["replications"] == 3).all()
    point = serial.query("transport == 'polling' and `polling.interval_s` == 10")
    runs = sl.replicate(BOARD.replace({"polling.interval_s": 10}), 3, progress=False)
    expected = theory.mean_interval(metrics.table(*runs)["latency_p95_s"])
    row = point.set_index("quantity").loc["latency_p95_s"]
    assert (row["mean"], row["low"], row["high"]) == expected
    assert serial.attrs["complete"]


@pytest.mark.parametrize("options", [{"on": "threads"}, {"on": "processes"}, {"engine": "simpy"}])
def test_wherever_a_sweep_runs_its_table_is_the_same(serial, options):
    pd.testing.assert_frame_equal(serial, swept(workers=2, **options), check_exact=True)


def test_on_a_cluster_the_table_is_the_same(serial):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    )
    with cluster, distributed.Client(cluster) as client:
        pd.testing.assert_frame_equal(serial, swept(on=client), check_exact=True)


def test_finished_runs_are_found_and_not_run_again(serial, tmp_path, monkeypatch):
    pd.testing.assert_frame_equal(serial, swept(store=tmp_path, on="threads"), check_exact=True)
    assert len(Store(tmp_path)) == 12

    def never(*_args, **_options):
        raise AssertionError("was run again")

    monkeypatch.setattr(experiment, "simulate", never)
    again = swept(store=tmp_path, on="serial")
    pd.testing.assert_frame_equal(serial, again, check_exact=True)


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"engine": "compiled"}, {"scenario": BOARD.replace(clients=21)}]
)
def test_another_run_is_not_mistaken_for_one_in_the_store(tmp_path, change):
    scenario = change.pop("scenario", BOARD)
    points = [{"transport": "polling"}]
    options = {"replications": 2, "store": tmp_path, "on": "serial", "progress": False}
    options |= {"engine": "simpy"}
    sl.sweep(BOARD, points, **options)
    sl.sweep(scenario, points, **{**options, **change})
    assert len(Store(tmp_path)) == 4


def test_a_damaged_file_of_the_store_is_named(tmp_path):
    swept(store=tmp_path, on="serial")
    damaged = next(tmp_path.glob("*/*.parquet"))
    damaged.write_bytes(b"PAR1 nothing")
    with pytest.raises(RunFileError, match=damaged.name):
        swept(store=tmp_path, on="serial")


def test_a_flipped_bit_never_gives_another_table(tmp_path):
    table = swept(store=tmp_path, on="serial")
    damaged = next(tmp_path.glob("*/*.parquet"))
    content = damaged.read_bytes()
    for place in range(0, len(content), 97):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        damaged.write_bytes(flipped)
        try:
            again = swept(store=tmp_path, on="serial")
        except RunFileError:
            continue
        pd.testing.assert_frame_equal(table, again, check_exact=True)


@pytest.mark.parametrize("path", ["", "a\0b", "n" * 300, 7])
def test_a_store_that_cannot_be_is_refused_before_anything_is_run(path):
    with pytest.raises(RunFileError):
        swept(store=path, on="serial")


@pytest.mark.parametrize("call", [sl.sweep, sl.compare])
@pytest.mark.parametrize("path", ["file", "file/runs", "file/of/runs", "link", "link/runs"])
def test_a_store_under_something_that_is_no_folder_is_refused_before_anything_is_run(
    tmp_path, monkeypatch, call, path
):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(experiment, "simulate", lambda *_a, **_k: pytest.fail("something was run"))
    other = BOARD.replace(clients=5) if call is sl.compare else [{"clients": 5}]
    options = {"replications": 2, "on": "serial", "progress": False}
    with pytest.raises(RunFileError, match="must be a folder, but"):
        call(BOARD, other, store=tmp_path / path, **options)


def test_a_store_may_lie_in_folders_that_are_made_for_it(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for path in (tmp_path / "link/of/runs", "runs"):
        assert len(Store(path)) == 0


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(RunFileError, match="cannot be written"):
        swept(store=tmp_path, on="serial")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_values_may_come_from_an_iterator():
    assert sl.grid({"clients": (n for n in (5, 6))}) == [{"clients": 5}, {"clients": 6}]


def test_a_grid_takes_arrays_and_refuses_equal_ones():
    times = [np.array([1.0, 2.0]), np.array([1.0, 2.0, 3.0]), [4.0]]
    assert len(sl.grid({"updates.publish_s": times})) == 3
    board = BOARD.replace(updates={"kind": "times", "publish_s": [0.0]})
    options = {"replications": 2, "engine": "simpy", "on": "serial", "progress": False}
    table = sl.sweep(board, {"updates.publish_s": times}, **options)
    eligible = table.query("quantity == 'eligible'")["mean"]
    assert eligible.iloc[0] < eligible.iloc[1]  # a change more
    for same in (np.array([4.0]), [4], (4.0,)):
        with pytest.raises(ScenarioError, match=r"over\['updates.publish_s'\]: must have no value"):
            sl.grid({"updates.publish_s": [*times, same]})
    sections = [{"kind": "times", "publish_s": one} for one in times]
    assert len(sl.grid({"updates": sections})) == 3


def test_a_file_of_another_run_or_of_another_program_is_named(tmp_path):
    for clients in (5, 6):
        options = {"replications": 2, "on": "serial", "progress": False}
        sl.sweep(BOARD, [{"clients": clients}], store=tmp_path, **options)
    one, other = sorted(tmp_path.glob("*/*.parquet"))
    other.write_bytes(one.read_bytes())
    with pytest.raises(RunFileError, match=f"{other.name}: not as simlib wrote it for these runs"):
        swept(store=tmp_path, on="serial")
    pd.DataFrame({"clients": [5]}).to_parquet(other)
    with pytest.raises(RunFileError, match=f"{other.name}: not as simlib wrote it: .*remove it"):
        swept(store=tmp_path, on="serial")


PROGRAM = """
import json, sys
import simlib as sl

board = sl.Scenario(updates={"rate_per_s": 0.2}, clients=400, horizon_s=400.0)
table = sl.sweep(
    board, {"polling.interval_s": [10, 20, 30]}, replications=8, store=sys.argv[1], on=sys.argv[2],
    workers=2, progress=False,
)
print(json.dumps(table.attrs["complete"]), flush=True)
print(table.to_json(), flush=True)
"""


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_any_moment_goes_on_where_it_was(tmp_path):
    def start(store, on="threads"):
        command = [sys.executable, "-c", PROGRAM, str(store), on]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole").communicate(timeout=120)[0].splitlines()
    assert json.loads(whole[0])
    dice, kept = random.Random(7), []
    for _ in range(3):
        sweep = start(tmp_path / "killed")
        goal = len(Store(tmp_path / "killed")) + dice.randint(0, 3)
        while len(Store(tmp_path / "killed")) < goal and sweep.poll() is None:
            time.sleep(0.002)
        time.sleep(dice.uniform(0.0, 0.02))
        sweep.send_signal(signal.SIGKILL)
        sweep.communicate(timeout=60)
        kept.append(len(Store(tmp_path / "killed")))
    assert kept == sorted(kept)
    assert kept[-1] > 0
    again = start(tmp_path / "killed").communicate(timeout=120)[0].splitlines()
    assert again == whole
    assert len(Store(tmp_path / "killed")) == 24


def test_ctrl_c_keeps_what_is_done(monkeypatch):
    finished = experiment.perform

    def interrupted(task):
        if task.replication == 2:
            raise KeyboardInterrupt
        return finished(task)

    monkeypatch.setattr(experiment, "perform", interrupted)
    with pytest.raises(sl.Interrupted, match="2 of 5 runs were finished") as stopped:
        sl.sweep(BOARD, [{"clients": 5}], replications=5, on="serial", progress=False)
    table = stopped.value.result
    assert not table.attrs["complete"]
    assert table["replications"].tolist() == [2] * len(metrics.QUANTITIES)


def wait_until(holds):
    ends_s = time.monotonic() + 120.0
    while not holds():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def of_a_thread(task):
    if task == "fails":
        raise ValueError("of a task")
    return task


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_threads_return_what_every_task_returns_once(workers):
    tasks = {(0, number): f"task {number}" for number in range(20)}
    done = {}
    execution = experiment.Execution("threads", workers, "simpy", False)
    assert experiment.collect(tasks, of_a_thread, execution, done)
    assert done == tasks


def test_what_a_task_raises_on_a_thread_is_raised_and_ends_the_others():
    before_s = sys.getswitchinterval()
    tasks = {(0, number): "fails" if number == 3 else "task" for number in range(1000)}
    done = {}
    execution = experiment.Execution("threads", 2, "simpy", False)
    with pytest.raises(ValueError, match="of a task"):
        experiment.collect(tasks, of_a_thread, execution, done)
    assert len(done) < 1000
    assert sys.getswitchinterval() == before_s


def test_an_interrupt_of_threads_keeps_what_is_done(monkeypatch):
    finished = experiment.perform

    def interrupted(task):
        if task.replication == 4:
            raise KeyboardInterrupt
        return finished(task)

    monkeypatch.setattr(experiment, "perform", interrupted)
    options = {"on": "threads", "workers": 1, "engine": "simpy", "progress": False}
    with pytest.raises(sl.Interrupted, match="4 of 6 runs were finished") as stopped:
        sl.sweep(BOARD, [{"clients": 5}], replications=6, **options)
    assert stopped.value.result["replications"].tolist() == [4] * len(metrics.QUANTITIES)


def test_after_an_interrupt_threads_end_within_a_second_though_runs_are_long(tmp_path):
    board = BOARD.replace({"clients": 100, "horizon_s": 360_000.0, "bin_s": 3600.0})
    points = [{"clients": 5, "horizon_s": 60.0}, {}]
    options = {"on": "threads", "workers": 2, "engine": "simpy", "progress": False}

    def ctrl_c():
        wait_until(lambda: len(Store(tmp_path)) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=ctrl_c, daemon=True).start()
    with pytest.raises(sl.Interrupted, match="2 of 4 runs were finished") as stopped:
        sl.sweep(board, points, replications=2, store=tmp_path, **options)
    computed_s = time.process_time()  # the machine may be busy
    workers = [each for each in threading.enumerate() if "carry_out" in each.name]
    for worker in workers:
        worker.join(timeout=60.0)
    assert time.process_time() - computed_s < 1.0
    assert not any(worker.is_alive() for worker in workers)
    finished = stopped.value.result
    assert set(finished["clients"]) == {5}
    assert (finished["replications"] == 2).all()


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(tmp_path):
    board = BOARD.replace({"clients": 200, "horizon_s": 300.0})
    killed = []

    def kill_one():
        wait_until(lambda: len(Store(tmp_path)) >= 3)
        workers = [
            child
            for child in psutil.Process().children(recursive=True)
            if "loky.backend.popen_loky_posix" in " ".join(child.cmdline())
        ]
        workers[0].kill()
        killed.append(workers[0].pid)

    assassin = threading.Thread(target=kill_one, daemon=True)
    assassin.start()
    options = {"replications": 10, "engine": "simpy", "progress": False}
    points = [{"polling.interval_s": 5}, {"polling.interval_s": 6}]
    table = sl.sweep(board, points, on="processes", workers=2, store=tmp_path, **options)
    assassin.join(timeout=30)
    assert killed
    assert table.attrs["complete"]
    alone = sl.sweep(board, points, on="serial", **{**options, "engine": "compiled"})
    pd.testing.assert_frame_equal(table, alone, check_exact=True)


def test_replications_go_on_until_the_interval_is_narrow_enough():
    options = {"on": "serial", "progress": False, "replications": 3}
    points = [{"clients": 5}, {"clients": 200}]
    first = sl.sweep(BOARD, points, **options)
    wide = first.query("quantity == 'latency_p50_s'").set_index("clients")
    width_s = (wide["high"] - wide["low"]).min() * 1.01
    table = sl.sweep(BOARD, points, until={"latency_p50_s": width_s}, at_most=60, **options)
    rows = table.query("quantity == 'latency_p50_s'")
    assert (rows["high"] - rows["low"] <= width_s).all() or (rows["replications"] == 60).any()
    assert sorted(rows["replications"])[0] == 3
    assert sorted(rows["replications"])[1] > 3


def test_pairs_on_common_draws_have_narrower_differences():
    push = BOARD.replace(transport="websocket")
    one, other = (push.replace({"heartbeat.interval_s": beat_s}) for beat_s in (10.0, 20.0))
    table = sl.compare(one, other, replications=8, on="serial", progress=False)
    row = table.set_index("quantity").loc["down_bytes_per_h"]
    assert row["difference"] == pytest.approx(row["other"] - row["one"])
    assert row["high"] < 0  # fewer pings, fewer bytes
    ones, others = (
        metrics.table(*sl.replicate(scenario, 8, progress=False))["down_bytes_per_h"]
        for scenario in (one, other)
    )
    assert row["difference"] == pytest.approx((others - ones).mean())
    unpaired = np.hypot(theory.standard_error(ones), theory.standard_error(others))
    assert theory.standard_error(others - ones) < unpaired / 10


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"over": {}}, None),
        ({"over": []}, "over"),
        ({"over": {"clients": []}}, "over['clients']"),
        ({"over": {"clients": "12"}}, "over['clients']"),
        ({"over": {"client": [1]}}, "client"),
        ({"over": {"clients": [10, -1]}}, "clients"),
        ({"replications": 1}, "replications"),
        ({"on": "cloud"}, "on"),
        ({"until": {"p50": 1.0}}, "until"),
        ({"until": {"lost": 0.0}}, "until['lost']"),
        ({"at_most": 2}, "at_most"),
        ({"confidence": 1.5}, "confidence"),
        ({"engine": "warp"}, "engine"),
        ({"over": 3}, "over"),
        ({"over": {"clients": [5, 6, 5]}}, "over['clients']"),
        ({"over": {"clients": iter(())}}, "over['clients']"),
        ({"over": [{}, None]}, "over[1]"),
        ({"until": ["lost"]}, "until"),
        ({"workers": 0}, "workers"),
        ({"scenario": "matters.toml"}, "scenario"),
    ],
)
def test_what_cannot_be_swept_is_refused_by_name(arguments, path):
    over = arguments.pop("over", {"clients": [5]})
    options = {"replications": 3, "on": "serial", "progress": False, **arguments}
    if path is None:  # nothing varies: one point
        assert len(sl.sweep(BOARD, over, **options)) == len(metrics.QUANTITIES)
        return
    with pytest.raises(ScenarioError) as error:
        sl.sweep(options.pop("scenario", BOARD), over, **options)
    assert error.value.path == path


@pytest.mark.parametrize("path", ["one", "other"])
def test_what_is_no_scenario_is_not_compared(path):
    sides = {"one": BOARD, "other": BOARD, path: "matters.toml"}
    with pytest.raises(ScenarioError) as error:
        sl.compare(**sides, progress=False)
    assert error.value.path == path


def test_a_store_below_a_file_is_refused_before_anything_runs(tmp_path):
    file = tmp_path / "file"
    file.write_text("something else")
    with pytest.raises(RunFileError, match=r"must be a folder, but .*file is none"):
        sl.sweep(BOARD, {"clients": [5]}, replications=2, store=file / "runs", progress=False)


# -- named variants --------------------------------------------------------------------------------

STORM = BOARD.replace(
    {"transport": "websocket", "faults": [{"kind": "restart", "start_s": 90.0, "length_s": 5.0}]}
)
WAITS = {"as it is": {}, "5 s": {"reconnect.base_s": 5.0}}
LENGTHS = {"none": {"faults": []}, "5 s": {}}


def varied(*changes, **options):
    options = {"engine": "simpy", "on": "serial", "progress": False} | options
    return sl.variants(STORM, *changes, **options)


def test_variants_are_runs_by_name_in_the_order_given():
    runs = varied(WAITS, seed=3)
    assert runs.index.tolist() == list(WAITS)
    assert runs.index.names == ["variant"]
    assert [run.scenario.name for run in runs] == list(WAITS)
    alone = sl.simulate(STORM.replace(WAITS["5 s"]), seed=3)
    pd.testing.assert_frame_equal(runs["5 s"].frame("clients"), alone.frame("clients"))
    assert sl.outages.reconnections(*runs)["name"].tolist() == list(WAITS)
    assert runs.attrs["complete"]


def test_several_sets_of_variants_are_crossed_the_last_varying_fastest():
    runs = varied(WAITS, LENGTHS, replications=2)
    assert runs.index.names == ["variant_1", "variant_2", "replication"]
    assert runs.index.tolist() == [
        (wait, length, number) for wait in WAITS for length in LENGTHS for number in (0, 1)
    ]
    run = runs["5 s", "none", 1]
    assert run.scenario.name == "5 s, none"
    assert run.scenario.reconnect.base_s == 5.0
    assert run.scenario.faults == STORM.replace(faults=[]).faults
    assert run.provenance["replication"] == 1


def test_the_changes_of_a_later_set_come_last():
    first, last = {"a": {"clients": 3}}, {"b": {"clients": 4}}
    assert varied(first, last).iloc[0].scenario.clients == 4


def test_a_list_of_names_stands_for_client_libraries():
    runs = varied(["phoenix", "signalr"])
    assert runs.index.tolist() == ["phoenix", "signalr"]
    expected = STORM.replace({**sl.library("signalr"), "name": "signalr"})
    assert runs["signalr"].scenario == expected


@pytest.mark.parametrize("on", ["threads", "processes"])
def test_wherever_variants_run_the_runs_are_the_same(on):
    for here, there in zip(varied(WAITS), varied(WAITS, on=on, workers=2), strict=True):
        assert here.scenario == there.scenario
        for name in ("timeline", "clients", "latency", "connections"):
            pd.testing.assert_frame_equal(here.frame(name), there.frame(name), check_exact=True)


def test_after_ctrl_c_the_complete_variants_are_returned(monkeypatch):
    plain = experiment.simulate

    def simulate(scenario, **options):
        if scenario.name == "5 s":
            raise KeyboardInterrupt
        return plain(scenario, **options)

    monkeypatch.setattr(experiment, "simulate", simulate)
    with pytest.raises(sl.Interrupted, match="1 of 2 runs were finished") as stopped:
        varied(WAITS)
    runs = stopped.value.result
    assert runs.index.tolist() == ["as it is"]
    assert not runs.attrs["complete"]
    with pytest.raises(sl.Interrupted) as stopped:
        varied({"5 s": {}})
    assert len(stopped.value.result) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], "changes: must be at least one mapping of names to changes"),
        ([{}], "changes: must have at least one variant"),
        ([[]], "changes: must have at least one variant"),
        ([7], "changes: must be a mapping of names to changes"),
        (["phoenix"], "changes: must be a mapping of names to changes"),
        ([WAITS, 7], r"changes\[1\]: must be a mapping"),
        ([["phoenix", "phoenix"]], "changes: must have no name twice"),
        ([["phoenyx"]], "changes: must be one of .*did you mean 'phoenix'"),
        ([{2: {}}], "changes: must have names that are texts, and not empty, got 2"),
        ([{"": {}}], "changes: must have names that are texts"),
        ([{"a": 7}], r"changes\['a'\]: must be a mapping of paths to values, got 7"),
        ([{"a": {"name": "b"}}], r"changes\['a'\].name: must be left out"),
        ([{"a": {"clients": 0}}], r"changes\['a'\].clients: must be"),
        ([WAITS, {"a": {"clents": 1}}], r"changes\[1\]\['a'\].clents"),
        ([{"n" * 101: {}}], r"changes\['n+\.\.\.\].name"),
    ],
)
def test_variants_that_cannot_be_are_refused_before_anything_is_run(monkeypatch, changes, message):
    monkeypatch.setattr(experiment, "simulate", lambda *_a, **_k: pytest.fail("something was run"))
    with pytest.raises(ScenarioError, match=f"^{message}"):
        varied(*changes)


@pytest.mark.parametrize(
    "options",
    [{"replications": 0}, {"workers": 0}, {"engine": "live"}, {"on": "mars"}],
    ids=lambda options: next(iter(options)),
)
def test_options_of_variants_are_checked(options):
    with pytest.raises(ScenarioError, match=f"^{next(iter(options))}: must be"):
        varied(WAITS, **options)
    with pytest.raises(ScenarioError, match=r"^scenario: must be a Scenario"):
        sl.variants("board", WAITS)
