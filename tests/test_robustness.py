"""Inputs and moments that nobody planned; each of these went wrong once."""

from __future__ import annotations

import pickle
import signal

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.engines.reference import Clock, Simulation
from simlib.errors import ScenarioError

B = {"updates": {"rate_per_s": 0.1}}
POLLED = sl.Scenario(
    clients=3,
    ramp_s=0.0,
    horizon_s=19.0,
    updates={"rate_per_s": 0.2},
    polling={"interval_s": 10.0},
    network={"rtt_s": 0.5, "tls": False},
    server={"workers": 3, "accept_s": 0.0, "poll_s": 0.25, "keep_alive_s": 2.0},
)


def test_a_connection_that_idled_out_before_the_horizon_is_closed_then():
    table = sl.simulate(POLLED, progress=False).frame("connections")
    assert table["cause"].tolist() == ["idle"] * 6
    assert (table["closed_s"] - table["opened_s"]).tolist() == pytest.approx([2.5] * 6)


def test_saving_never_replaces_what_is_not_a_saved_run(tmp_path):
    run = sl.simulate(POLLED, progress=False)
    (tmp_path / "thesis.txt").write_text("x", encoding="utf-8")
    with pytest.raises(sl.RunFileError):
        run.save(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_replicate_keeps_the_complete_runs_when_ctrl_c_comes_between_them(monkeypatch):
    import simlib.engines as engines

    real, calls = engines.compile_workload, []

    def compiled(*a):
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return real(*a)

    monkeypatch.setattr(engines, "compile_workload", compiled)
    with pytest.raises(sl.Interrupted, match="3 of 10 runs were finished") as stopped:
        sl.replicate(POLLED, 10, progress=False)
    assert [run.provenance["replication"] for run in stopped.value.result] == [0, 1, 2]


def test_ctrl_c_during_the_last_bookings_of_a_run_stops_a_replication(monkeypatch):
    import simlib.engines as engines

    real, calls = engines.make_run, []

    def made(*a, **k):
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return real(*a, **k)

    monkeypatch.setattr(engines, "make_run", made)
    with pytest.raises(sl.Interrupted, match="4 of 10 runs were finished") as stopped:
        sl.replicate(POLLED, 10, progress=False)
    assert all(run.is_complete for run in stopped.value.result)


def test_summary_has_a_row_though_one_bin_holds_the_warm_up_and_the_rest():
    s = POLLED.replace(bin_s=50.0, warm_up_s=7.0)
    assert len(sl.simulate(s, progress=False).metrics()) == 1


def test_nothing_is_scheduled_in_the_past(monkeypatch):
    real = Clock.at

    def at(self, t):
        assert t >= self.now
        return real(self, t)

    monkeypatch.setattr(Clock, "at", at)
    s = sl.Scenario(
        transport="websocket",
        clients=4,
        ramp_s=0.0,
        horizon_s=60.0,
        updates={"rate_per_s": 0.5},
        network={"rtt_s": 3.0},
        server={"backlog": 1, "accept_s": 3.0},
        websocket={"open_timeout_s": 50.0},
    )
    sl.simulate(s, progress=False)


def test_utilisation_of_an_interrupted_run_is_at_most_one(monkeypatch):
    real = Simulation.run_until

    def f(self, t):
        real(self, t)
        if t >= 100:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Simulation, "run_until", f)
    s = sl.Scenario(
        clients=50,
        ramp_s=0.0,
        horizon_s=200.0,
        bin_s=7.0,
        updates={"rate_per_s": 0.1},
        polling={"interval_s": 1.0},
        server={"poll_s": 0.5},
    )
    with pytest.raises(sl.Interrupted) as stopped:
        sl.simulate(s, engine="simpy", progress=False)
    assert stopped.value.result.frame("timeline")["utilisation"].max() <= 1 + 1e-9


@pytest.mark.parametrize("path", ["clients", "polling.interval_s", "transport"])
def test_a_field_that_is_not_optional_cannot_be_taken_away(path):
    s = sl.Scenario(**B, clients=5, polling={"interval_s": 5}, transport="websocket")
    with pytest.raises(sl.ScenarioError):
        s.replace({path: None})


@pytest.mark.parametrize("size", ["1.001 kB", "4.097 kB", "1.005 MB"])
def test_whole_sizes_are_read_whatever_binary_fractions_do(size):
    expected = round(float(size.split()[0]) * {"kB": 1000, "MB": 1000000}[size.split()[1]])
    assert (
        sl.Scenario(updates={"rate_per_s": 1.0, "snapshot_bytes": size}).updates.snapshot_bytes
        == expected
    )


def test_a_size_beyond_any_memory_is_refused():
    with pytest.raises(sl.ScenarioError):
        sl.Scenario(updates={"rate_per_s": 1.0, "delta_bytes": "1e400 B"})


def test_a_number_of_thousands_of_digits_is_refused():
    with pytest.raises(sl.ScenarioError):
        sl.Scenario(**B, clients=10**5000)


def test_a_number_of_thousands_of_digits_in_a_file_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text("clients = " + "9" * 5000)
    with pytest.raises(sl.ScenarioError):
        sl.Scenario.load(tmp_path / "a.toml")


def test_a_trace_whose_name_no_file_can_have_is_refused():
    with pytest.raises(sl.ScenarioError):
        sl.simulate(sl.Scenario(updates={"kind": "trace", "trace": "a\0b"}))


def test_a_trace_that_is_no_csv_is_refused(tmp_path):
    (tmp_path / "c.csv").write_text("publish_s,x\n1.0," + "y" * 200000 + "\n")
    with pytest.raises(sl.ScenarioError):
        sl.simulate(
            sl.Scenario(updates={"kind": "trace", "trace": str(tmp_path / "c.csv")}), progress=False
        )


def test_errors_survive_a_process_boundary():
    others = [ScenarioError("c", 2, "d", place="f, line 2")]
    sent = ScenarioError("a", 1, "b", others=others, place="f, line 1")
    e = pickle.loads(pickle.dumps(sent))
    assert (e.path, e.value, e.rule, str(e)) == ("a", 1, "b", str(sent))
    assert str(e) == "a: b, got 1 (f, line 1)\nc: d, got 2 (f, line 2)"


def test_a_loaded_run_with_a_trace_can_be_made_again(tmp_path):
    (tmp_path / "c.csv").write_text("publish_s\n1.0\n")
    (tmp_path / "t.toml").write_text(
        'horizon_s=20\nramp_s=1\n[updates]\nkind="trace"\ntrace="c.csv"\n'
    )
    s = sl.Scenario.load(tmp_path / "t.toml")
    run = sl.simulate(s, progress=False)
    back = sl.Run.load(run.save(tmp_path / "r"))
    assert back.scenario.hash == s.hash


def test_tables_of_two_runs_in_one_folder_are_refused(tmp_path):
    a = sl.simulate(POLLED, progress=False).save(tmp_path / "a")
    b = sl.simulate(POLLED.replace(clients=5), progress=False).save(tmp_path / "b")
    (a / "clients.parquet").write_bytes((b / "clients.parquet").read_bytes())
    with pytest.raises(sl.RunFileError):
        sl.Run.load(a)


def test_host_header_cannot_hold_a_line_break():
    with pytest.raises(sl.ScenarioError):
        sl.Scenario(**B, wire={"host": "a\r\nEvil: x"})


def test_a_host_name_that_no_head_can_hold_is_refused():
    with pytest.raises(sl.ScenarioError) as e:
        sl.Scenario(**B, wire={"host": "é"})
    assert e.value.path == "wire.host"


@pytest.mark.parametrize("length", ["1e9999999999999999999 s", "1e300 d", "-1e99999999 s"])
def test_a_duration_beyond_any_clock_is_refused(length):
    with pytest.raises(sl.ScenarioError):
        sl.Scenario(**B, horizon_s=length)


def test_a_negative_size_beyond_any_memory_is_refused():
    with pytest.raises(sl.ScenarioError):
        sl.Scenario(updates={"rate_per_s": 1.0, "delta_bytes": "-1e99999999 B"})


def test_replace_leaves_what_it_is_given_alone_and_refuses_what_is_no_path():
    given = {"interval_s": 5.0}
    scenario = sl.Scenario(**B).replace({"polling": given, "polling.etag": "content"})
    assert given == {"interval_s": 5.0}
    assert scenario.polling.etag == "content"
    for wrong in ({"polling": 5, "polling.interval_s": 3}, {5: 3}):
        with pytest.raises(sl.ScenarioError):
            sl.Scenario(**B).replace(wrong)


def test_files_that_only_look_like_scenarios_are_refused(tmp_path):
    (tmp_path / "deep.toml").write_text("clients = " + "[" * 5000)
    for path in (tmp_path / "deep.toml", ".", "/"):
        with pytest.raises(sl.ScenarioError) as error:
            sl.Scenario.load(path)
        assert error.value.path


def test_a_trace_that_a_spreadsheet_wrote_is_read(tmp_path):
    (tmp_path / "c.csv").write_text("publish_s\n1.0\n", encoding="utf-8-sig")
    updates = {"kind": "trace", "trace": str(tmp_path / "c.csv")}
    assert sl.simulate(sl.Scenario(updates=updates), progress=False).ledger.eligible > 0


def test_an_interrupted_run_counts_no_work_after_its_end(monkeypatch):
    real = Simulation.run_until

    def stopped(self, t):
        real(self, t)
        if t >= 10.0:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Simulation, "run_until", stopped)
    board = sl.Scenario(
        clients=50,
        ramp_s=0.0,
        horizon_s=200.0,
        bin_s=100.0,
        updates={"rate_per_s": 0.1},
        server={"poll_s": 0.5},
    )
    with pytest.raises(sl.Interrupted) as stopped:
        sl.simulate(board, engine="simpy", progress=False)
    run = stopped.value.result
    end_s = run.provenance["end_of_run_s"]
    busy_s = (run.frame("timeline")["utilisation"] * run.frame("timeline")["width_s"]).sum()
    assert end_s - 1.0 < busy_s <= end_s


@pytest.mark.parametrize(
    "call",
    [
        lambda: sl.metrics.table(),
        lambda: sl.metrics.intervals([]),
        lambda: sl.simulate(POLLED, keep=None),
        lambda: sl.simulate(POLLED, progress=False).latency_quantiles("x"),
        lambda: sl.simulate(POLLED, progress=False).frame(["clients"]),
        lambda: sl.simulate(None),
        lambda: sl.measure("matters.toml"),
        lambda: sl.on_loopback(None),
        lambda: sl.metrics.table("x"),
        lambda: sl.metrics.ecdf(3),
        lambda: sl.metrics.bytes_by_rate(POLLED, 5),
        lambda: sl.metrics.bytes_by_rate(POLLED, ["a"]),
        lambda: sl.Scenario(**B).replace(5),
        lambda: sl.Scenario(**B).replace([("clients", 3)]),
        lambda: sl.Scenario.load(None),
        lambda: sl.Scenario(**B, horizon_s=5e-324, ramp_s=0.0),
    ],
)
def test_calls_that_make_no_sense_are_refused_by_name(call):
    with pytest.raises(sl.ScenarioError):
        call()


def test_saving_never_deletes_what_somebody_put_beside_a_run(tmp_path):
    run = sl.simulate(POLLED, progress=False)
    run.save(tmp_path / "runs")
    run.save(tmp_path / "runs" / "polling")
    with pytest.raises(sl.RunFileError, match="would be lost"):
        run.save(tmp_path / "runs")
    assert (tmp_path / "runs" / "polling").exists()


def test_traces_of_one_name_and_different_content_are_different_scenarios(tmp_path):
    both = []
    for text in ("1.0", "2.0"):
        folder = tmp_path / text
        folder.mkdir()
        (folder / "c.csv").write_text(f"publish_s\n{text}\n", encoding="utf-8")
        (folder / "t.toml").write_text('[updates]\nkind="trace"\ntrace="c.csv"\n')
        both.append(sl.Scenario.load(folder / "t.toml"))
    assert both[0] != both[1]
    assert both[0] == sl.Scenario.load(tmp_path / "1.0" / "t.toml")


@pytest.mark.parametrize("host", ["app:port", "[::", "a:99999", "a b"])
def test_a_host_that_no_client_could_address_is_refused(host):
    with pytest.raises(sl.ScenarioError) as error:
        sl.Scenario(**B, wire={"host": host})
    assert error.value.path == "wire.host"


# -- tables that only look right ------------------------------------------------------------------

COSTS = pd.DataFrame(
    {
        "workload": "pollers",
        "engine": "simpy",
        "clients": [100, 10_000],
        "horizon_s": 600.0,
        "events": [1e3, 1e5],
        "cpu_s": [1.0, 100.0],
        "bytes_per_client": 3000,
    }
)
SWEPT = pd.DataFrame(
    {
        "clients": [5, 400],
        "transport": "polling",
        "quantity": "latency_p50_s",
        "mean": [1.0, 2.0],
        "low": [0.9, 1.8],
        "high": [1.1, 2.2],
    }
)
RATES = sl.metrics.bytes_by_rate(POLLED, [0.1, 1.0])
WAITS = sl.outages.delays(["phoenix"], attempts=3, clients=5)
KILLS = pd.DataFrame(
    {
        "policy": "fixed, 1 s",
        "clients": 500,
        "quantity": ["t50_s", "t95_s"],
        **dict.fromkeys(("predicted", "measured_median", "measured_low", "measured_high"), 5.0),
        "error_frac": 0.0,
    }
)
SUMS = pd.DataFrame({**dict.fromkeys(sl.metrics._SUMS, 1.0), "transport": ["polling"] * 2})
# What takes a table: with which columns of text and of numbers, and whether these are above 0.
TAKERS = {
    "reach": (lambda table: sl.metrics.capacity(table, 60.0), COSTS, "workload", "cpu_s", True),
    "six": (sl.metrics.guide_metrics, SUMS, "transport", "polls", False),
    "engine_costs": (sl.figures.engine_costs, COSTS, "engine", "events", True),
    "along": (
        lambda table: sl.figures.sensitivity(table, "clients", "latency_p50_s"),
        *(SWEPT, "transport", "low", False),
    ),
    "crossover": (sl.figures.crossover, RATES, "transport", "bytes_per_h", True),
    "delays": (sl.figures.delays, WAITS, "library", "p95_s", False),
    "restarts": (sl.figures.restarts, KILLS, "quantity", "measured_low", False),
}


def odd(values, value, dtype=None):
    """A column whose second row has an odd value."""
    column = values.astype(dtype or object)
    column.iloc[1] = value
    return column if dtype else column.infer_objects()


@pytest.mark.parametrize("name", TAKERS)
def test_a_table_that_is_right_is_taken_whatever_its_dtypes_and_labels(name):
    call, table, _, number, _ = TAKERS[name]
    call(table)
    call(table.set_index(pd.Index(list(range(7, 7 + len(table))))))
    call(table.assign(**{number: table[number].astype("Float64")}))
    call(table.astype({"transport": "category"} if "transport" in table else {}))


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, pd.NA, None, "many", 1j, True, [1.0]], ids=repr
)
def test_a_number_that_is_none_is_named_with_its_column(name, value):
    call, table, _, number, _ = TAKERS[name]
    table = table.reset_index(drop=True)
    with pytest.raises(sl.ScenarioError, match=rf"\.{number}: must be .*numbers"):
        call(table.assign(**{number: odd(table[number], value)}))
    if value is pd.NA:
        with pytest.raises(sl.ScenarioError, match=rf"\.{number}: must be .*numbers.*row 1"):
            call(table.assign(**{number: odd(table[number], value, "Float64")}))


@pytest.mark.parametrize("name", [name for name in TAKERS if TAKERS[name][-1]])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_what_is_drawn_or_reckoned_on_a_log_scale_is_above_zero(name, value):
    call, table, _, number, _ = TAKERS[name]
    table = table.reset_index(drop=True)
    with pytest.raises(sl.ScenarioError, match=rf"{number}: must be numbers > 0 \(see row 1\)"):
        call(table.assign(**{number: odd(table[number].astype(float), value)}))


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("value", [np.nan, None, pd.NA, 5, ("a", "b")], ids=repr)
def test_a_word_that_is_none_is_named_with_its_row(name, value):
    call, table, word, _, _ = TAKERS[name]
    column = table[word].astype(object).tolist()
    column[1] = value
    table = table.reset_index(drop=True).assign(**{word: pd.Series(column, dtype=object)})
    with pytest.raises(sl.ScenarioError, match=rf"\.{word}: must be text \(see row 1\)"):
        call(table)


@pytest.mark.parametrize("name", TAKERS)
def test_a_table_without_rows_or_with_a_column_twice_or_none_is_refused(name):
    call, table, word, number, _ = TAKERS[name]
    with pytest.raises(sl.ScenarioError, match="must have at least one row"):
        call(table.iloc[:0])
    for column in (word, number):
        for wrong in (table.drop(columns=column), pd.concat([table, table[[column]]], axis=1)):
            with pytest.raises(sl.ScenarioError, match=f"must have the column {column}, once"):
                call(wrong)
    for nothing in (None, table.to_dict(), table[number]):
        with pytest.raises(sl.ScenarioError, match="must be a table"):
            call(nothing)


@pytest.mark.parametrize("names", [5, "phoenix"])
def test_names_of_presets_are_a_list(names):
    with pytest.raises(sl.ScenarioError, match="names: must be a list"):
        sl.outages.delays(names)


# -- nobody comes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", ["uuid4", "email", "number"])
@pytest.mark.parametrize("deciders", ["ramp", "and", "or"])
def test_a_rollout_to_nobody_runs_to_its_horizon(ids, deciders):
    nobody = sl.Scenario(
        **B, clients=0, sessions={"arrivals_per_s": 1e-6, "length_s": 10.0}, horizon_s=400.0
    )
    bucketing = {"ids": ids, "deciders": deciders}
    if deciders != "ramp":
        bucketing |= {"experiment_percent": 50, "server_percent": 50}
    plan = sl.Plan(
        flag={"propagation": "pushed"},
        bucketing=bucketing,
        stages=[{"percent": 50, "bake_s": 120}, {"percent": 100, "bake_s": 120}],
        guardrails=[{"metric": "latency_p95_s", "below": 2.0, "no_data": "pass"}],
    )
    rollout = sl.roll_out(plan, nobody, engine="simpy", progress=False)
    assert len(rollout.run.frame("clients")) == 0
    assert rollout.run.ledger.eligible == 0
    assert rollout.history["event"].iloc[-1] == "done"
