"""Files that a user names: none is read that is not a regular file, or too large."""

from __future__ import annotations

import os
import re

import pytest

import simlib as sl
from simlib.errors import ScenarioError
from simlib.scenario import reading
from simlib.scenario.documents import read_documents
from simlib.scenario.fields import read_toml

FLAG = {"propagation": "pushed"}


def read_trace(path):
    updates = {"kind": "trace", "trace": str(path)}
    return sl.Scenario(updates=updates).read_trace()


def roll_out_to_users_of(path):
    bucketing = {"ids": "file", "ids_file": str(path)}
    plan = sl.Plan(flag=FLAG, bucketing=bucketing, stages=[{"percent": 100, "bake_s": 60}])
    return sl.roll_out(plan, sl.Scenario(updates={"rate_per_s": 0.1}), engine="simpy")


READERS = {
    "scenario": (sl.Scenario.load, ".toml"),
    "plan": (sl.Plan.load, ".toml"),
    "YAML": (lambda path: sl.Plan.load(path, flag=FLAG), ".yaml"),
    "JSON": (lambda path: sl.Plan.load(path, flag=FLAG), ".json"),
    "documents": (read_documents, ".yml"),
    "TOML": (lambda path: read_toml(path, "scenario"), ".toml"),
    "trace": (read_trace, ".csv"),
    "ids": (sl.bucketing.read_user_ids, ".txt"),
    "users of a rollout": (roll_out_to_users_of, ".txt"),
}


@pytest.fixture(params=READERS)
def reader(request):
    return READERS[request.param]


def refused(read, path, words):
    with pytest.raises(ScenarioError, match=words) as error:
        read(path)
    assert error.value.path


def test_what_is_no_regular_file_is_refused_before_it_is_read(reader, tmp_path):
    read, ending = reader
    (tmp_path / f"folder{ending}").mkdir()
    os.mkfifo(tmp_path / f"pipe{ending}")
    (tmp_path / f"zero{ending}").symlink_to("/dev/zero")
    refused(read, tmp_path / f"folder{ending}", "must be a regular file|but this is a folder")
    for name in ("pipe", "zero"):
        refused(read, tmp_path / f"{name}{ending}", "must be a regular file")


def test_files_that_are_not_there_or_cannot_be_are_named(reader, tmp_path):
    read, ending = reader
    (tmp_path / f"loop{ending}").symlink_to(f"loop{ending}")
    (tmp_path / f"dangling{ending}").symlink_to("nowhere")
    (tmp_path / "file").write_text("x")
    for name in ("none", "dangling"):
        refused(read, tmp_path / f"{name}{ending}", "must be an existing")
    for name in ("loop", "n" * 300, "a\0b", "file/x"):
        refused(read, tmp_path / f"{name}{ending}", "must be a file that can be read|existing")


def test_no_more_of_a_file_is_read_than_the_limit(reader, tmp_path, monkeypatch):
    read, ending = reader
    path = tmp_path / f"large{ending}"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: nothing is written
    for name in ("MOST_DATA_BYTES", "MOST_BYTES"):
        for module in (sl.scenario.model, sl.bucketing):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 10**5)
    refused(read, path, r"must have at most \d+ bytes")


def test_text_that_is_not_utf_8_is_refused(reader, tmp_path):
    read, ending = reader
    (tmp_path / f"x{ending}").write_bytes(b"a\xff\xfe")
    refused(read, tmp_path / f"x{ending}", "must be UTF-8 text")


def test_lines_end_in_one_way_and_the_mark_at_the_start_is_left_out(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\nd")
    assert reading.read_text(path, "file", 11) == "a\nb\nc\nd"
    refused(lambda path: reading.read_text(path, "file", 10), path, "must have at most 10 bytes")


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 20_000) + " = 1",
        " . ".join('"' + "a" * 3 + '"' for _ in range(9)) + " = 1",
        "[" + ".".join("a" * 9) + "]",
        "[[" + ".".join("'a'" for _ in range(9)) + "]]",
        "x = { " + ".".join("a" * 9) + " = 1 }",
        "x = [[{ y = {" + ".\t".join("a" * 9) + " = 1 }}]]",
    ],
)
def test_a_key_of_very_many_parts_is_refused_before_it_is_parsed(text, tmp_path, monkeypatch):
    import tomllib

    path = tmp_path / "x.toml"
    path.write_text(text)
    monkeypatch.setattr(tomllib, "loads", lambda _: pytest.fail("it was parsed"))
    for load in (sl.Scenario.load, sl.Plan.load):
        refused(load, path, re.escape("must be valid TOML (a key has more than 8 parts)"))


def test_dots_in_texts_comments_and_numbers_are_no_keys(tmp_path):
    path = tmp_path / "x.toml"
    dots = "a." * 40 + "a"
    path.write_text(
        f"name = '{dots}'  # {dots}\n"
        f'transport = "websocket" # "{dots}\n'
        "# ''' " + dots + "\n"
        "[updates]\nkind = 'trace'\n"
        f'trace = """\\"{dots}"""\n'
        "[reconnect]\npolicy = 'table'\n"
        f"delays_s = [{', '.join(['0.5'] * 16)}]\n"
    )
    scenario = sl.Scenario.load(path)
    assert (scenario.name, scenario.updates.trace) == (dots, f'"{dots}')
