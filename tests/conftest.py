"""What all tests share: how hypothesis searches, and which tests need what."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

# In CI the examples are the same in every run, so that a failure is the change's own doing; at a
# desk they differ, so that somebody meets the rare one. Never a deadline: machines are shared.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# A shell that starts make in the background has it ignore Ctrl-C, which some tests raise.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing is compiled beside tests: they would measure it.
os.environ["SIMLIB_COMPILE_AHEAD"] = "0"

# What the marks mean is said in pyproject.toml; each name stands for all tests that begin so.
MARKED = {
    "compiled": (
        "tests/core/test_fallback.py::test_behind_",
        "tests/core/test_fallback.py::test_those_who_return_",
        "tests/core/test_faults.py",
        "tests/core/test_path.py::test_added_latency_",
        "tests/core/test_path.py::test_nothing_overtakes_",
        "tests/core/test_resync.py::test_a_replay_brings_",
        "tests/core/test_resync.py::test_more_gaps_",
        "tests/core/test_resync.py::test_a_busy_board_",
        "tests/core/test_backpressure.py",
        "tests/core/test_assignment.py::test_both_engines_agree_",
        "tests/engines/test_answers.py",
        "tests/engines/test_bad_gateway.py",
        "tests/engines/test_balancing.py",
        "tests/engines/test_beats.py",
        "tests/engines/test_combinations.py",
        "tests/engines/test_compiled_engine.py",
        "tests/engines/test_golden.py",
        "tests/engines/test_nodes.py::test_the_last_client_",
        "tests/engines/test_notify.py",
        "tests/engines/test_rollouts.py",
        "tests/engines/test_search.py",
        "tests/engines/test_stream_proxy.py",
        "tests/engines/test_streams.py",
        "tests/engines/test_poll_rounds.py",
        "tests/engines/test_wasm.py",
        "tests/web/test_explorer_page.py",
        "tests/web/test_laid_out.py",
        "tests/rollout/formats/test_formats.py::test_every_plan_of_the_data_",
        "tests/test_experiment.py",
        "tests/test_readme.py::test_the_examples_",
        "tests/test_progress.py::test_compiling_",
        "tests/figures/test_rollouts.py",
        "tests/figures/test_timelines.py",
        "tests/guide/test_defects.py",
        "tests/analysis/test_traffic.py::test_bytes_by_rate_",
        "tests/analysis/test_outages.py",
        "tests/theory/test_balancing.py",
        "tests/theory/test_reconnecting.py::test_a_full_jitter_storm_",
        "tests/theory/test_reconnecting.py::test_an_exponential_storm_",
        "tests/rollout/test_cohorts.py::test_both_engines_agree_",
        "tests/rollout/test_cohorts.py::test_a_rehearsal_",
        "tests/rollout/test_reasons.py",
        "tests/rollout/test_trials.py",
        "tests/analysis/test_rollouts.py",
        "tests/verdict/test_guides_board.py",
    ),
    "live": (
        "tests/test_readme.py::test_what_the_reference_measures_",
        "tests/test_experiment.py::test_on_a_cluster_",
        "tests/publish/test_comparison.py",
        "tests/publish/test_render.py",
        "tests/publish/test_site.py",
    ),
    "slow": (
        "tests/test_readme.py::test_a_wheel_",
        "tests/engines/test_reference.py::test_every_run_balances_",
        "tests/engines/test_reference.py::test_polling_staleness_",
        "tests/engines/test_reference.py::test_pollers_that_queue_",
        "tests/engines/test_reference.py::test_push_latency_is_a_fan_out_",
        "tests/analysis/test_bucketing.py::test_a_mismatch_is_rarely_called_",
        "tests/analysis/test_bucketing.py::test_the_interval_covers_",
        "tests/rollout/test_significance.py::test_a_hundred_peeks_",
        "tests/rollout/test_significance.py::test_the_interval_covers_",
        "tests/rollout/test_significance.py::test_the_p_value_is_scipys",
        "tests/theory/test_theory.py::test_md1_tail_",
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their names."""
    for item in items:
        for mark, names in MARKED.items():
            if item.nodeid.startswith(names):
                item.add_marker(mark)
