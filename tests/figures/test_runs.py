"""Figures show the numbers of the tables, in constant colours, with units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.figures import COLOURS
from simlib.publish.notebook import digest
from tests.figures.titles import title_of

BOARD = sl.Scenario(updates={"rate_per_s": 0.5}, clients=20, horizon_s=120.0)
COLOUR_OF = {"polling": "#D55E00", "websocket": "#0072B2"}


def run(transport, seed=1, engine="simpy"):
    result = sl.simulate(BOARD.replace(transport=transport), seed=seed, progress=False)
    result.provenance["engine"] = engine
    return result


def standing_in(measured, predicted):
    """A run that passes for a measurement of what `predicted` simulated."""
    keys = ("scenario_hash", "seed", "replication")
    same = {key: predicted.provenance[key] for key in keys}
    return sl.Run(measured.scenario, {**measured.provenance, **same}, measured._tables)


@pytest.fixture(scope="module")
def runs():
    return [
        run("polling"),
        run("websocket"),
        run("polling", 2, "live"),
        run("websocket", 2, "live"),
    ]


OF_RUNS = ["latency", "bandwidth", "bytes_per_client", "utilisation", "connections", "six_metrics"]


@pytest.mark.parametrize("name", OF_RUNS)
def test_colour_says_the_transport_and_line_or_pattern_the_source(runs, name):
    figure = getattr(sl.figures, name)(*runs)
    assert {trace.name for trace in figure.data} == {
        f"{words}, {source}"
        for words in ("polling", "WebSocket push")
        for source in ("simulated", "measured")
    }
    for trace in figure.data:
        transport = "polling" if trace.name.startswith("polling") else "websocket"
        is_measured = trace.name.endswith("measured")
        if trace.type == "bar":
            assert trace.marker.color == COLOUR_OF[transport]
            assert bool(trace.marker.pattern.shape) == is_measured
        else:
            assert trace.line.color == COLOUR_OF[transport]
            assert (trace.line.dash == "dot") == is_measured


def shown(values):
    """Numbers as a figure stores them: four digits, and None where there is none."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]


UNITS = ("(log scale)", "(s)", "(min)", "(%)", "(B/s)", "(kB", "(ms)", "(1/s", "(mean number)")
FINDINGS = {
    "latency": lambda row: in_words(row["latency_p50_s"]),
    "bandwidth": lambda row: f"{(row['up_bytes_per_h'] + row['down_bytes_per_h']) / 3600:.3g} B/s",
    "bytes_per_client": lambda row: in_kilobytes(row["up_bytes_per_h"] + row["down_bytes_per_h"]),
    "utilisation": lambda row: f"{row['utilisation'] * 100:.2g} %",
    "connections": lambda row: f"{row['connection_count']:.4g}",
    "six_metrics": lambda row: in_words(row["average_latency_s"]),
}


def in_kilobytes(n_bytes):
    return f"{float(f'{n_bytes / 1e3:.3g}'):,g} kB/h"


def in_words(seconds):
    return f"{seconds * 1e3:.3g} ms" if seconds < 1.0 else f"{seconds:.3g} s"


@pytest.mark.parametrize("name", OF_RUNS)
def test_the_title_has_the_number_of_the_summary_for_each_transport(runs, name):
    title = getattr(sl.figures, name)(*runs).layout.title
    for result, how in zip(runs[:2], ("polled", "pushed"), strict=True):
        number = FINDINGS[name](result.metrics().iloc[0])
        said = title.text.replace("<br>", " ").split(how)[0]
        assert number in said
    assert "simulated, seed 1" in title.subtitle.text.replace("<br>", " ")
    assert "no interval" in title.subtitle.text.replace("<br>", " ")


@pytest.mark.parametrize("name", OF_RUNS)
def test_the_y_axis_has_a_unit_and_the_stored_figure_is_small(runs, name):
    figure = getattr(sl.figures, name)(*runs)
    if name == "six_metrics":
        titles = [note.text for note in figure.layout.annotations]
        assert len(titles) == 6
        assert all("<br>(" in title for title in titles)
        titles = [axis.title.text for axis in figure.select_xaxes()]
        assert titles == ["time (s)"] * 6
    else:
        assert any(unit in figure.layout.yaxis.title.text for unit in UNITS)
        assert name == "bytes_per_client" or any(
            unit in figure.layout.xaxis.title.text for unit in UNITS
        )
    assert len(figure.to_json()) < 60_000
    for trace in figure.data:
        assert "%{y" in trace.hovertemplate
        assert len(trace.y) <= 400


def test_the_latency_curve_is_the_distribution_of_the_run(runs):
    for curve, result in zip(sl.figures.latency(*runs).data, runs, strict=True):
        table = sl.metrics.ecdf(result)
        points = set(zip(shown(table["latency_s"]), shown(table["share"] * 100), strict=True))
        assert set(zip(curve.x, curve.y, strict=True)) <= points
        assert curve.y[-1] == 100.0
        at_median = np.interp(50.0, curve.y, curve.x)
        assert at_median == pytest.approx(float(result.latency_quantiles(0.5)), rel=0.02)


def test_a_thinned_curve_keeps_its_ends():
    figure = sl.figures.latency(
        sl.simulate(
            BOARD.replace({"clients": 200, "updates.rate_per_s": 2.0}), seed=1, progress=False
        )
    )
    assert 200 < len(figure.data[0].x) <= 400
    assert figure.data[0].y[-1] == 100.0


@pytest.mark.parametrize("chosen", [[0], [1], [0, 1]])
def test_every_latency_axis_has_ticks_in_words(runs, chosen):
    axis = sl.figures.latency(*(runs[index] for index in chosen)).layout.xaxis
    assert axis.type == "log"
    assert 2 <= len(axis.tickvals) <= 8
    assert all(axis.range[0] <= np.log10(tick) <= axis.range[1] for tick in axis.tickvals)
    assert set(axis.ticktext) & {"10 ms", "20 ms", "10 s"}
    assert all(text.split()[1] in {"µs", "ms", "s"} for text in axis.ticktext)


def test_a_latency_of_zero_is_still_drawn():
    at_once = {
        "transport": "websocket",
        "network.rtt_s": 0.0,
        "server.fan_out_s": 0.0,
        "server.send_s": 0.0,
    }
    result = sl.simulate(BOARD.replace(at_once), progress=False)
    figure = sl.figures.latency(result)
    assert figure.data[0].x == (1e-6,)
    assert "1 µs" in figure.layout.xaxis.ticktext


OVER_TIME = {
    "bandwidth": lambda table: table["up_bytes_per_s"] + table["down_bytes_per_s"],
    "utilisation": lambda table: table["utilisation"] * 100.0,
    "connections": lambda table: table["connection_count"],
}


@pytest.mark.parametrize("name", OVER_TIME)
def test_curves_over_time_are_the_rows_of_the_table_up_to_the_horizon(runs, name):
    figure = getattr(sl.figures, name)(runs[0], runs[1], width_s=20)
    for trace, result in zip(figure.data, runs[:2], strict=True):
        table = sl.metrics.over_time(result, width_s=20)
        assert list(trace.x[:-1]) == shown(table["t_s"])
        assert list(trace.y[:-1]) == shown(OVER_TIME[name](table))
        assert (trace.x[-1], trace.y[-1]) == (BOARD.horizon_s, trace.y[-2])


def test_steps_of_a_long_run_stay_apart():
    long = sl.Scenario(
        updates={"rate_per_s": 1e-4}, clients=1, horizon_s=20_000.0, bin_s=4.0, ramp_s=0.0
    )
    result = sl.simulate(long, progress=False)
    expected = sl.metrics.over_time(result, width_s=4)["t_s"].tolist()
    assert list(sl.figures.utilisation(result, width_s=4).data[0].x) == [*expected, 20_000.0]
    assert list(sl.figures.six_metrics(result, width_s=4).data[0].x) == expected


def test_the_six_panels_are_the_six_metrics(runs):
    figure = sl.figures.six_metrics(runs[1])
    table = sl.metrics.over_time(runs[1], width_s=10)
    names = [
        "connection_count",
        "average_latency_s",
        "reconnection_rate_per_h",
        "message_rate_per_s",
        "error_rate_per_h",
        "fallback_to_polling_frac",
    ]
    for trace, name in zip(figure.data, names, strict=True):
        assert list(trace.y) == shown(table[name])


def test_bars_are_the_bytes_of_the_summary(runs):
    for trace, result in zip(sl.figures.bytes_per_client(*runs).data, runs, strict=True):
        row = result.metrics().iloc[0]
        ways = [f"{layer}{way}_bytes_per_h" for way in ("up", "down") for layer in ("", "payload_")]
        expected = [row[name] / 1e3 for name in ways]
        assert list(trace.y) == shown(expected)
        assert [float(text.replace(",", "")) for text in trace.text] == pytest.approx(
            expected, rel=5e-3
        )


def test_replications_share_a_legend_entry_and_different_scenarios_do_not(runs):
    again = run("polling", 3)
    conditional = sl.simulate(BOARD.replace({"polling.etag": "content"}), progress=False)
    faster = sl.simulate(BOARD.replace({"polling.interval_s": 10.0}), progress=False)
    traces = sl.figures.latency(runs[0], again, conditional, faster).data
    assert [trace.name for trace in traces if trace.showlegend] == [
        "polling, simulated",
        "polling with ETag, simulated",
        "polling, simulated, polling interval 10 s",
    ]
    assert traces[0].name == traces[1].name
    assert traces[2].line.color == COLOURS["polling with ETag"]


def test_where_transports_coincide_push_is_drawn_on_wider_polling(runs):
    traces = sl.figures.connections(runs[1], runs[0]).data
    assert [trace.name.split(",")[0] for trace in traces] == ["polling", "WebSocket push"]
    assert traces[0].line.width > traces[1].line.width


@pytest.mark.parametrize("index", [0, 1])
def test_agreement_shows_both_runs_the_errors_and_the_verdict(runs, index):
    predicted, measured = runs[index], standing_in(runs[index + 2], runs[index])
    figure = sl.figures.agreement(predicted, measured)
    words = ("polling", "WebSocket push")[index]
    assert [trace.name for trace in figure.data] == [f"{words}, simulated", f"{words}, measured"]
    table = sl.metrics.compare(predicted, measured)[:3]
    unit, factor = ("s", 1.0) if index == 0 else ("ms", 1e3)
    assert f"({unit})" in figure.layout.yaxis.title.text
    assert list(figure.data[0].y) == shown(table["predicted"] * factor)
    assert list(figure.data[1].y) == shown(table["measured"] * factor)
    for text, error in zip(figure.data[0].text, table["error_frac"], strict=True):
        assert (f"{error * 100:+.1f} %" if abs(error) >= 5e-4 else "under 0.1 %") in text
    assert all(verdict in title_of(figure) for verdict in table["verdict"])
    assert not any("e+" in text for trace in figure.data for text in trace.text)
    assert "e+" not in title_of(figure)


def test_agreement_says_when_the_machine_was_busy_or_the_bar_was_missed(runs):
    late = sl.simulate(BOARD.replace({"transport": "websocket", "network.rtt_s": 1.0}), seed=1)
    late.provenance["engine"] = "live"
    late = standing_in(late, runs[1])
    assert "outside the allowed error" in title_of(sl.figures.agreement(runs[1], late))
    late.provenance["quiet"] = False
    assert "inconclusive" in title_of(sl.figures.agreement(runs[1], late))


def test_agreement_of_two_transports_is_refused(runs):
    with pytest.raises(sl.ScenarioError, match="predicted: must be of the measured run's"):
        sl.figures.agreement(runs[0], runs[1])


def test_crossover_draws_every_line_and_marks_the_rate():
    table = sl.metrics.bytes_by_rate(BOARD, [0.01, 0.1, 1.0, 10.0])
    rate = table.attrs["crossover_per_s"]
    figure = sl.figures.crossover(table, crossover_per_s=rate)
    kinds = list(table["transport"].unique())
    assert [trace.line.color for trace in figure.data] == [COLOURS[kind] for kind in kinds]
    for trace in figure.data:
        kind = "websocket" if trace.name == "WebSocket push" else trace.name
        rows = table[table["transport"] == kind]
        assert list(trace.x) == shown(rows["rate_per_s"])
        assert list(trace.y) == shown(rows["bytes_per_h"] / 1e3)
    assert f"{rate:.3g}" in title_of(figure)
    assert figure.layout.shapes[0].x0 == pytest.approx(rate, rel=1e-3)
    assert 10 ** figure.layout.annotations[0].x == pytest.approx(rate, rel=1e-3)
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert "(1/s" in figure.layout.xaxis.title.text
    assert "(kB" in figure.layout.yaxis.title.text


def test_crossover_has_a_finding_without_a_rate_and_at_rate_zero():
    table = sl.metrics.bytes_by_rate(BOARD, [0.01, 10.0])
    pushed = table[table["transport"] == "websocket"]["bytes_per_h"].iloc[-1] / 1e3
    plain = sl.figures.crossover(table)
    assert f"{float(f'{pushed:.3g}'):,.10g} kB/h pushed" in title_of(plain)
    assert not plain.layout.shapes
    always = sl.figures.crossover(table, crossover_per_s=0.0)
    assert "at every rate" in title_of(always)
    assert not always.layout.shapes


def test_a_wrong_crossover_table_says_what_is_wrong():
    table = sl.metrics.bytes_by_rate(BOARD, [0.1, 1.0])
    with pytest.raises(sl.ScenarioError, match="must have the column bytes_per_h"):
        sl.figures.crossover(table.drop(columns="bytes_per_h"))
    with pytest.raises(sl.ScenarioError, match="at least one row"):
        sl.figures.crossover(table[:0])
    with pytest.raises(sl.ScenarioError, match=r"table\.transport: must be among polling"):
        sl.figures.crossover(table.assign(transport="carrier pigeon"))
    with pytest.raises(sl.ScenarioError, match="crossover_per_s: must be a number >= 0"):
        sl.figures.crossover(table, crossover_per_s=float("nan"))


@pytest.mark.parametrize("name", OF_RUNS)
def test_the_same_seed_gives_the_same_figure_and_another_seed_another(name):
    def draw(seed):
        result = [run("polling", seed), run("websocket", seed)]
        return digest(getattr(sl.figures, name)(*result).to_plotly_json())

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize("name", OF_RUNS)
@pytest.mark.parametrize("wrong", [(), ("polling",), (None,)])
def test_what_is_not_a_run_is_refused(name, wrong):
    with pytest.raises(sl.ScenarioError, match="runs: must be"):
        getattr(sl.figures, name)(*wrong)


def test_a_run_that_delivered_nothing_has_no_latency_to_draw(runs):
    silent = sl.simulate(BOARD.replace({"updates.rate_per_s": 1e-9}), progress=False)
    with pytest.raises(sl.ScenarioError, match="must have delivered something"):
        sl.figures.latency(runs[0], silent)
    with pytest.raises(sl.ScenarioError, match="must have delivered something"):
        sl.figures.agreement(runs[0], silent)


@pytest.mark.parametrize("name", [name for name in OF_RUNS if name != "latency"])
def test_what_a_silent_board_costs_can_be_drawn(name):
    silent = sl.simulate(BOARD.replace({"updates.rate_per_s": 1e-9}), progress=False)
    title = title_of(getattr(sl.figures, name)(silent))
    assert "nan" not in title


def costs_of(**changes):
    """A table of costs that grow with the clients: SimPy takes 10 s for an hour of 100."""
    sizes = {"simpy": [100, 10_000], "compiled": [100, 10_000, 1_000_000]}
    rows = [
        {
            "workload": workload,
            "engine": engine,
            "clients": clients,
            "horizon_s": 600.0,
            "events": 20 * clients,
            "cpu_s": clients / (60.0 if engine == "simpy" else 6000.0),
            "bytes_per_client": 3000 if engine == "simpy" else 200,
        }
        for workload in ("pollers", "push")
        for engine in sizes
        for clients in sizes[engine]
    ]
    return pd.DataFrame(rows).assign(**changes)


def test_costs_are_drawn_per_workload_and_engine_and_the_title_says_how_far_each_goes():
    figure = sl.figures.engine_costs(costs_of())
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert names == [
        f"{what}, {engine}"
        for what in ("polling", "WebSocket push")
        for engine in ("SimPy", "the compiled engine")
    ]
    assert {trace.line.dash for trace in figure.data if "SimPy" in trace.name} == {"dash"}
    # An hour of n clients takes n / 10 s with SimPy and n / 1000 s compiled; a minute is 60 s.
    assert title_of(figure) == (
        "An hour of polling in a minute: 600 clients with SimPy, "
        "60,000 clients with the compiled engine"
    )
    hour_s, events_per_s, memory = figure.data[:3]
    assert list(hour_s.y) == [10.0, 1000.0]
    assert list(events_per_s.y) == [1200.0, 1200.0]
    assert list(memory.y) == [3000.0, 3000.0]


def test_how_far_an_engine_goes_is_said_beyond_what_was_measured_too():
    reach = sl.metrics.capacity(costs_of(), 1e6)["clients"]
    assert (reach == float("inf")).all()
    assert sl.metrics.capacity(costs_of(), 1e-6)["clients"].isna().all()
    title = title_of(sl.figures.engine_costs(costs_of(cpu_s=1e9)))
    assert "fewer clients than were tried with SimPy" in title


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (costs_of().drop(columns="cpu_s"), "must have the column cpu_s"),
        (costs_of().drop(columns="events"), "must have the column events"),
        (costs_of(cpu_s=0.0), r"costs\.cpu_s: must be numbers > 0"),
        (costs_of(cpu_s="long"), r"costs\.cpu_s: must be numbers > 0"),
        (None, "costs: must be a table"),
        (costs_of(engine="abacus"), "must be among simpy, compiled"),
        (costs_of(workload="chess"), "must be among pollers, push, storm"),
        (costs_of().iloc[:0], "must have at least one row"),
    ],
)
def test_costs_that_are_none_are_refused(table, words):
    with pytest.raises(sl.ScenarioError, match=words):
        sl.figures.engine_costs(table)


def test_a_time_of_no_number_is_refused():
    with pytest.raises(sl.ScenarioError, match="within_s: must be > 0"):
        sl.metrics.capacity(costs_of(), "a minute")
