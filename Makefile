# Every target that needs Python packages makes its own environment first, in .venv, from the
# hash-locked requirements.lock; as long as neither that file nor pyproject.toml changes, it is
# made once. Another Python: `make test PYTHON=python3.13`, which makes .venv anew if it is of
# another one.

PYTHON ?= python3
NOTEBOOKS ?=
PYTEST_ARGS ?=
LAB_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MINIMUM := 3.11

# None of the notebooks may hang for ever: nbval notices a dead kernel by this limit only.
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout=600

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env warm report test test-static test-engines test-others test-computed test-lab test-live test-measured test-lab-then-measured \
  check lint types unit-rules unit-rest compare lab bench golden lock clean another-python

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: warm  ## make the environment .venv and compile the engine, once (the others do it by themselves)

# Not for notebooks in JupyterLab: there the first cells have it done beside them.
warm: $(STAMP)
	@$(BIN)/python -m simlib.engines.warm

report: warm  ## run the notebooks for real and write pages that open offline to build/report
	@$(BIN)/python -m simlib.publish.report $(NOTEBOOKS)

# Any notebook that is not listed here measures on real sockets. So do the tests of `tests/live`.
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)
ENGINES := tests/core tests/engines
COMPUTED := notebooks/00_start_here.ipynb notebooks/10_how_far_it_goes.ipynb notebooks/05_rehearsal.ipynb notebooks/09_decide.ipynb notebooks/08_scaling.ipynb notebooks/06_guide_audited.ipynb
MEASURED := $(filter-out $(COMPUTED), $(wildcard notebooks/*.ipynb))
LIVE := tests/live
LAB := $(patsubst %,$(LIVE)/test_%.py,cuts lab nodes) tests/lab/test_live_view.py

# What is measured has the machine to itself: beside something that computes, each message is late.
# Two real servers at a time mostly wait; a third one would make the others late on a slow machine.
test: export SIMLIB_COMPILE_AHEAD := 0
test: $(STAMP)  ## lint, types, tests, doctests and every cell of every notebook
	@$(MAKE) --no-print-directory -j 2 warm test-static
	@$(MAKE) --no-print-directory -k -j 2 test-live test-lab-then-measured
	@$(MAKE) --no-print-directory -k -j 3 test-engines test-others test-computed

test-static:
	@$(MAKE) --no-print-directory lint types

test-engines:
	$(PYTEST) $(ENGINES)

test-others:
	$(PYTEST) $(patsubst %,--ignore %, $(ENGINES) $(LIVE) $(LAB)) tests simlib

test-computed:
	$(PYTEST) $(NBVAL) $(COMPUTED)

test-lab:
	$(PYTEST) $(LAB)

test-lab-then-measured:
	@$(MAKE) --no-print-directory test-lab; lab=$$?; \
	$(MAKE) --no-print-directory test-measured && exit $$lab

test-live:
	$(PYTEST) $(patsubst %,--ignore %, $(LAB)) $(LIVE)

test-measured:
	$(PYTEST) $(NBVAL) $(MEASURED)

# The tests run in two halves, a processor each. Nothing is compiled: what few small runs on the
# compiled engine are left are interpreted.
UNIT := NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -m "not compiled and not live and not slow"

check: $(STAMP)  ## in a minute: lint, types, and the tests that need no compiler and no socket
	@$(MAKE) --no-print-directory --output-sync=target -j 4 lint types unit-rules unit-rest

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy simlib

unit-rules:
	$(UNIT) tests/core tests/engines

unit-rest:
	$(UNIT) --ignore tests/core --ignore tests/engines tests

# CI runs one notebook in this way, in tests/publish/test_comparison.py.
compare: warm  ## run the computed notebooks by the second runner, which needs no nbval
	@$(BIN)/python -m simlib.publish.comparison $(or $(NOTEBOOKS),$(COMPUTED))

lab: $(STAMP)  ## explore the notebooks in JupyterLab, on this machine only
	$(BIN)/python -m jupyterlab --ip=127.0.0.1 --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks --LabApp.news_url=None $(LAB_ARGS)

bench: warm  ## measure how fast the engines are here
	$(BIN)/python tests/benchmarks/run.py
	$(BIN)/python tests/benchmarks/sweep.py

golden: warm  ## record data/golden anew, after a change of results that is meant
	$(BIN)/python -m tests.golden

lock: $(STAMP)  ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/python -m venv build/lock-tool
	build/lock-tool/bin/python -m pip install --quiet uv
	build/lock-tool/bin/uv pip compile --no-config --upgrade --universal --generate-hashes \
	  --no-header --no-annotate --extra cluster --extra notebooks --extra test --python-version $(MINIMUM) --quiet \
	  --output-file requirements.lock pyproject.toml

clean:  ## remove the environment and everything that was made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find simlib tests notebooks -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) \
	  -prune -exec rm -rf {} +

# Where PYTHON is given, .venv has to be of that Python, or is not up to date.
ifneq "$(origin PYTHON)" "file"
ifneq "$(wildcard $(STAMP))" ""
VERSION = $(shell $(1) -c 'import sys; print(sys.version)' 2>/dev/null || echo none at $(1))
ifneq "$(call VERSION,$(PYTHON))" "$(call VERSION,$(BIN)/python)"
ANOTHER := another-python
endif
endif
endif

another-python:
	@echo "$(VENV) is of Python $(firstword $(call VERSION,$(BIN)/python)), and PYTHON is $(PYTHON)"

# A half-made environment is thrown away: the stamp is the last thing to be written.
$(STAMP): requirements.lock pyproject.toml $(ANOTHER)
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "simlib needs Python >= $(MINIMUM), and '$(PYTHON)' was not found: try make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(MINIMUM)".split("."))))' || { \
	  echo "simlib needs Python >= $(MINIMUM), and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): try make PYTHON=python3.12" >&2; exit 1; }
	@echo "making $(VENV) (once)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip  # in half the time
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)
