"""pyproject.toml, requirements.lock and environment.yml describe one environment."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PYTHONS = ["3.11", "3.12", "3.13"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

# Names under which a package is imported, where they differ.
IMPORTED_AS = {"beautifulsoup4": "bs4", "pillow": "PIL", "pyjwt": "jwt", "pyyaml": "yaml"}
IMPORTED_AS |= {"salib": "SALib"}
CONDA_CALLS = {"wasmtime-py": "wasmtime"}
"""Packages that have another name at conda-forge."""


def wanted() -> list[Requirement]:
    texts = list(PROJECT["dependencies"])
    for name, extra in PROJECT["optional-dependencies"].items():
        texts.extend(extra if name != "bench" else [])  # peers to measure against: not locked
    return [Requirement(text) for text in texts]


def locked() -> list[tuple[Requirement, list[str]]]:
    """Return each entry of the lock with its hashes."""
    entries = []
    for entry in re.split(r"\n(?=\S)", LOCK.strip()):
        requirement, *hashes = (part.strip() for part in entry.replace("\\\n", "\n").split("\n"))
        entries.append((Requirement(requirement), hashes))
    return entries


def test_every_locked_package_is_exact_and_has_hashes() -> None:
    for requirement, hashes in locked():
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes)


def test_the_lock_names_no_place() -> None:
    assert "://" not in LOCK
    assert not re.search(r"--(?:index|extra-index|find-links|trusted-host)", LOCK)
    assert not any(requirement.url for requirement, _ in locked())


def test_the_lock_satisfies_every_requirement_on_every_supported_python() -> None:
    for python in PYTHONS:
        environment = dict(default_environment(), python_version=python)
        environment["python_full_version"] = f"{python}.0"
        here = {
            canonicalize_name(requirement.name): requirement.specifier
            for requirement, _ in locked()
            if requirement.marker is None or requirement.marker.evaluate(environment)
        }
        for requirement in wanted():
            exact = here[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(str(exact).removeprefix("==")), requirement


def test_conda_and_pip_ask_for_the_same() -> None:
    *lines, by_pip = CONDA["dependencies"]
    *from_pypi, here = by_pip["pip"]
    lines += from_pypi  # what conda-forge does not have
    conda = {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}
    conda = {CONDA_CALLS.get(name, name): versions for name, versions in conda.items()}
    assert conda.pop("pip") == SpecifierSet()
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert conda == {canonicalize_name(r.name): r.specifier for r in wanted()}
    assert CONDA["name"] == PROJECT["name"]
    assert CONDA["channels"][0] == "conda-forge"
    assert here == "-e ."


def test_one_python_is_named_everywhere() -> None:
    minimum = PROJECT["requires-python"].removeprefix(">=")
    assert minimum == PYTHONS[0]
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert tools["mypy"]["python_version"] == minimum
    assert tools["ruff"]["target-version"] == "py" + minimum.replace(".", "")
    assert f"MINIMUM := {minimum}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c]
    assert named == PYTHONS


def test_the_build_backend_is_locked_so_that_an_install_needs_no_isolation() -> None:
    [build] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"][
        "requires"
    ]
    assert Requirement(build).name in {requirement.name for requirement, _ in locked()}


def test_every_package_that_is_imported_is_declared() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in wanted()}
    known = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in declared}
    # jupyterlab and nbconvert are built from these, and bring them along in every version.
    known |= {"jinja2", "jupyter_client", "pygments", "IPython"}
    known |= {"annotated_types"}  # what pydantic's constraints are made of
    for folder in ("simlib", "tests", "notebooks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module]
                for name in (name.partition(".")[0] for name in names):
                    if name not in {"simlib", "tests", *sys.stdlib_module_names}:
                        assert name in known, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    ("given", "is_remade"),
    [
        ([], False),
        (["PYTHON=./same"], False),
        (["PYTHON=./other"], True),
        (["PYTHON=./missing"], True),
    ],
)
def test_an_environment_of_another_python_is_made_anew(tmp_path, given, is_remade) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, version in ((".venv/bin/python", 1), ("same", 1), ("other", 2)):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '3.{version}.0 (main, May 1) [C]'\n")
        (tmp_path / name).chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        (tmp_path / name).touch()
    # What it would do; only the Pythons are asked for their versions.
    done = subprocess.run(
        ["make", "-n", "env", *given], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ("rm -rf .venv" in done.stdout) == is_remade
    assert (".venv is of Python 3.1.0, and PYTHON is" in done.stdout) == is_remade


def test_a_python_that_is_missing_leaves_the_environment_alone(tmp_path) -> None:
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run(
        ["make", "env", "PYTHON=./missing"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "'./missing' was not found" in done.stderr
    assert (tmp_path / ".venv/.installed").exists()


@pytest.mark.parametrize(
    ("target", "compiles"),
    [("env", True), ("report", True), ("test", True), ("lab", False), ("check", False)],
)
def test_the_engine_is_compiled_where_it_is_waited_for(tmp_path, target, compiles) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        (tmp_path / name).touch()
    done = subprocess.run(
        ["make", "-n", target], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ("-m simlib.engines.warm" in done.stdout) == compiles
