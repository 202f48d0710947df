"""Several plans in one file, as kubectl prints them and repositories keep them."""

from __future__ import annotations

import pytest

from simlib.errors import ScenarioError
from tests.rollout.formats.examples import BACKGROUND, CPU, SAID, UNLEASH, changed, load


def canary(name, **analysis):
    metadata = {"name": name, "namespace": "quotes", "resourceVersion": "123"}
    rail = {"name": "latency_p99_s", "thresholdRange": {"max": 0.5}, "interval": "1m"}
    analysis = {"interval": "1m", "threshold": 5, "maxWeight": 50, "metrics": [rail], **analysis}
    spec = {"service": {"port": 80}, "analysis": analysis}
    status = {"phase": "Initialized", "canaryWeight": 0}
    return {"kind": "Canary", "metadata": metadata, "spec": spec, "status": status}


def listed(*items):
    """What `kubectl get -o yaml` prints."""
    metadata = {"resourceVersion": ""}
    return {"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": list(items)}


PLAIN, FRONT = canary("plain", stepWeight=10), canary("front", stepWeight=20)
NAMELESS = changed(PLAIN, "metadata", {})


@pytest.mark.parametrize("file", ["canaries.yaml", "canaries.json"])
def test_a_list_of_kubectls_is_opened(tmp_path, file):
    plan = load(tmp_path, listed(canary("quotes", stepWeight=5)), file)
    assert plan.name == "quotes"
    assert [stage.percent for stage in plan.stages] == [*range(5, 55, 5), 100]
    assert plan.check_every_s == 60.0
    assert plan.decision.failures == 5
    assert [(rail.metric, rail.below) for rail in plan.guardrails] == [("latency_p99_s", 0.5)]


def test_a_list_and_documents_beside_it_are_one_file(tmp_path):
    plan = load(tmp_path, listed(*BACKGROUND), gate_s=120, metrics=CPU)
    rollout, template = BACKGROUND
    assert load(tmp_path, [rollout, listed(template)], gate_s=120, metrics=CPU) == plan


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (listed(), "plan.yaml: must say something: it is empty"),
        ({"kind": "List"}, "plan.yaml.items: must be given"),
        ({**listed(PLAIN), "more": 1}, "plan.yaml.more: is not a known field"),
        (listed(PLAIN, 5), "plan.yaml.items.1: must be a mapping"),
        (listed({"kind": "Service"}), "plan.yaml: must be a Canary, a Rollout"),
    ],
)
def test_a_list_without_a_plan_is_refused(tmp_path, value, words):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, value)
    assert words in str(error.value)


@pytest.mark.parametrize("value", [[PLAIN, FRONT], listed(PLAIN, FRONT)], ids=["file", "list"])
def test_of_several_canaries_the_caller_chooses_one_by_name(tmp_path, value):
    plain, front = (load(tmp_path, value, name=name) for name in ("plain", "front"))
    assert [stage.percent for stage in plain.stages] == [10, 20, 30, 40, 50, 100]
    assert [stage.percent for stage in front.stages] == [20, 40, 60, 100]
    assert (plain.name, front.name) == ("plain", "front")
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, value)
    assert str(error.value) == (
        "plan.yaml: must be there once in a file, or name= must say which: plain, front, "
        "got 'Canary'"
    )


def test_of_several_rollouts_the_caller_chooses_one_with_its_templates(tmp_path):
    rollout, template = BACKGROUND
    other = changed(rollout, "metadata.name", "other")
    said = {"gate_s": 120, "metrics": CPU}
    plan = load(tmp_path, [rollout, other, template], name="other", **said)
    assert plan == load(tmp_path, BACKGROUND, **said).replace(name="other")


@pytest.mark.parametrize(
    ("value", "name", "words"),
    [
        ([PLAIN, FRONT], "back", "name: must be the name of one Canary of the file alone: plain, "),
        (
            [PLAIN, PLAIN],
            "plain",
            "name: must be the name of one Canary of the file alone: plain, ",
        ),
        (PLAIN, "front", "name: must be the name of one Canary of the file alone: plain"),
        ([PLAIN, FRONT], 5, "name: must be the name of one Canary of the file alone: plain, front"),
        ([NAMELESS, NAMELESS], None, "plan.yaml: must be there once in a file, got"),
        ([NAMELESS, NAMELESS], "plain", "plan.yaml: must be there once in a file, got"),
        (UNLEASH, "plain", "name: must be left to the file, which says it"),
    ],
)
def test_a_name_that_chooses_nothing_is_refused(tmp_path, value, name, words):
    with pytest.raises(ScenarioError) as error:
        load(tmp_path, value, name=name, **SAID["unleash_schedule.json"])
    assert words in str(error.value)


def test_a_name_is_the_plans_where_the_file_says_none(tmp_path):
    assert load(tmp_path, NAMELESS, name="mine").name == "mine"
    assert load(tmp_path, PLAIN, name="plain").name == "plain"
