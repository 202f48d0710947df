"""sl.settings() finds a setting by any of its names, and its page is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

import simlib as sl
from simlib.publish import reference, report

PAGE = Path(__file__).parents[2] / "data" / "settings.md"


def paths(search):
    return [one.path for one in sl.settings(search)]


def test_the_page_of_settings_is_up_to_date():
    text = PAGE.read_text(encoding="utf-8")
    assert text == reference.page(), "python -m simlib.publish.reference data/settings.md"
    for one in sl.settings():
        assert f"| `{one.path.removeprefix('Plan.')}` |" in text


@pytest.mark.parametrize(
    ("search", "path"),
    [
        ("refetchInterval", "polling.interval_s"),
        ("pingInterval", "heartbeat.interval_s"),
        ("ping_interval", "heartbeat.interval_s"),
        ("PINGTIMEOUT", "heartbeat.timeout_s"),
        ("reconnectionDelay", "reconnect.base_s"),
        ("proxy_read_timeout", "network.idle_s"),
        ("keepalive_timeout", "server.keep_alive_s"),
        ("worker_connections", "server.max_connections"),
        ("failureLimit", "Plan.decision.failures"),
        ("network.idle_s", "network.idle_s"),
        ("idle_s", "network.idle_s"),
        ("how many servers", "server.nodes"),
    ],
)
def test_a_name_leads_to_its_setting_alone(search, path):
    assert paths(search) == [path]


def test_every_name_leads_to_its_setting():
    for one in sl.settings():
        for name in reference._names(one).values():
            assert one in list(sl.settings(name)), name


def test_a_word_leads_to_all_that_it_is_said_of():
    assert {"heartbeat.direction", "server.heartbeat_s"} <= set(paths("heartbeat"))
    assert "network.idle_s" in paths("nginx")
    assert "heartbeat.interval_s" in paths("socketio")
    assert paths("rtt") == ["network.rtt_s", "network.rtt_spread", "network.rtt_quantiles"]
    assert "reconnect.base_s" in paths("first delay")
    assert all(path.startswith("Plan.") for path in paths("plan"))
    assert not any(path.startswith("Plan.") for path in paths("scenario"))
    assert len(sl.settings()) == len(sl.settings("plan")) + len(sl.settings("scenario"))


@pytest.mark.parametrize(
    ("search", "hint"),
    [("refetchIntervall", "refetchInterval?"), ("pingIntervall", "ping_interval?"), ("xyzzy", "")],
)
def test_what_is_not_found_is_refused_with_the_nearest_name(search, hint):
    with pytest.raises(sl.ScenarioError) as caught:
        sl.settings(search)
    assert hint in str(caught.value)
    assert ("did you mean" in str(caught.value)) == bool(hint)


def test_only_text_can_be_searched_for():
    with pytest.raises(sl.ScenarioError, match="search: must be text, got 5"):
        sl.settings(5)


def test_settings_are_shown_as_text_as_html_and_as_a_table():
    found = sl.settings("rtt")
    assert repr(found).startswith("network.rtt_s = 0.04 s    >= 0\n    Round-trip time")
    assert "&gt;= 0" in found._repr_html_()
    assert found.table["setting"].tolist() == [one.path for one in found]
    assert found[0] == next(iter(found))


def test_a_report_has_the_settings_as_a_page(tmp_path):
    text = reference.write_page(tmp_path).read_text(encoding="utf-8")
    for one in sl.settings():
        assert f">{one.path.removeprefix('Plan.')}</td>" in text
    [index] = report.write_pages([], tmp_path)
    assert '<a href="settings.html">' in index.read_text(encoding="utf-8")


def test_the_page_can_be_written_by_a_command(tmp_path, capsys):
    reference.main([str(tmp_path / "page.md")])
    reference.main([])
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == capsys.readouterr().out
    with pytest.raises(SystemExit, match="usage"):
        reference.main(["a", "b"])
