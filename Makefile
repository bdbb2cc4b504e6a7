# The course in two commands: `make lab` opens it, `make test` checks all of it.  `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REFERENCE_VENV := .venv-reference
REFERENCE_BIN := $(REFERENCE_VENV)/bin
START := notebooks/00_start_here.ipynb
ARGS ?=

# Stamp files: a step runs again only when what it read has changed.
READER := $(VENV)/.reader
DEV := $(VENV)/.dev
REFERENCE := $(REFERENCE_VENV)/.reference
SMOL := $(VENV)/.smol

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# JupyterLab refuses to run as root unless told to; containers often are root.
ALLOW_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
CHECK_PYTHON := $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "This course needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." \
  "Name another one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
HAS_CHROMIUM := command -v chromium || command -v chromium-browser || command -v google-chrome
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: help
help:  ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-16s %s\n", $$1, $$2 }'

# ---------------------------------------------------------------- environments

.PHONY: setup
setup: $(DEV)  ## the environment for reading, building and testing (.venv)

$(BIN)/python:
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)

$(READER): requirements.txt requirements.lock.txt pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP) -r requirements.txt
	$(BIN)/python $(PIP) --no-deps --editable .
	@$(BIN)/python -c 'import matplotlib.font_manager'  # builds the font cache, which would warn inside a notebook
	@touch $@

$(DEV): requirements-dev.txt $(READER)
	$(BIN)/python $(PIP) -r requirements-dev.txt
	@touch $@

$(REFERENCE): requirements-reference.txt requirements-reference.lock.txt pyproject.toml
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(REFERENCE_VENV)
	$(REFERENCE_BIN)/python $(PIP) -r requirements-reference.txt
	$(REFERENCE_BIN)/python $(PIP) --no-deps --editable .
	@touch $@

$(SMOL): requirements-smol.txt $(READER)
	$(BIN)/python $(PIP) --no-deps -r requirements-smol.txt
	if test -x $(REFERENCE_BIN)/python; then $(REFERENCE_BIN)/python $(PIP) --no-deps -r requirements-smol.txt; fi
	@touch $@

# Without --no-install-recommends Debian's chromium brings a desktop along.
.PHONY: browser
browser:  ## Chromium for the browser tests, through apt-get if it is missing and we are root
	@{ $(HAS_CHROMIUM); } >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; \
	  } >/dev/null 2>&1 || echo "No Chromium, and no way to install it: browser tests will skip (with CI=true: fail)." >&2

# Direct pins in, every package out, for all systems and Python versions at once. pip reads the result as constraints.
COMPILE := $(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --python-version 3.11
NOTE := \# Every package, pinned. Written by make lock from the direct pins; pip reads it as constraints.

.PHONY: lock
lock: $(DEV)  ## pin every package again, after a change of a direct pin
	grep -hv '^-' requirements.txt requirements-dev.txt | { echo '$(NOTE)'; $(COMPILE) -; } > requirements.new
	mv requirements.new requirements.lock.txt
	grep -hv '^-' requirements-reference.txt | { echo '$(NOTE)'; $(COMPILE) -c requirements.lock.txt -; } > requirements.new
	mv requirements.new requirements-reference.lock.txt

# ---------------------------------------------------------------- reading

.PHONY: lab
lab: $(READER)  ## set up and open the course; ARGS=--no-browser to open the printed address yourself
	$(BIN)/jupyter lab $(ALLOW_ROOT) --config=tools/jupyter_server_config.py --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(START) $(ARGS)

.PHONY: bench
bench: $(DEV) browser  ## how quick things are, as ratios from one run; ARGS="kernel import" for parts of the first tool
	$(BIN)/python tools/bench.py $(ARGS)
ifeq ($(ARGS),)
	$(BIN)/python tools/bench_needle.py
	$(BIN)/python tools/bench_smol.py
endif

.PHONY: smol
smol: $(SMOL)  ## optional: SmolLM2 (98 MB), the real language model of lesson 07

.PHONY: needle
needle: $(READER)  ## train the model of lesson 07 yourself; ARGS="--scheme rope --seed 3" for another one
	$(BIN)/python tools/train_needle.py $(ARGS)

# ---------------------------------------------------------------- building and checking

.PHONY: notebooks
notebooks: $(DEV)  ## build every notebook from its text; ARGS=01_kv_cache for one
	$(BIN)/python tools/build_notebooks.py $(ARGS)

.PHONY: family-defaults
family-defaults: $(REFERENCE)  ## read the defaults of transformers' config classes again, after a change of its version
	$(REFERENCE_BIN)/python tools/family_defaults.py $(ARGS)

.PHONY: lint
lint: $(DEV)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One pytest run over the tests and over every cell of every notebook, so that its last line counts everything.
# nbval compares strictly, a notebook stays on one worker (loadscope), its kernel is this environment's (current-env).
.PHONY: test
test: lint browser  ## everything: lint, types, tests, strict re-run of all notebooks, browser
	@$(BIN)/pytest --ignore=tests/reference --nbval --nbval-current-env --nbval-cell-timeout=60 \
	  --numprocesses=2 --dist=loadscope --quiet tests notebooks $(wildcard exercises/solutions) $(ARGS)

.PHONY: test-reference
test-reference: $(REFERENCE)  ## kvlib against torch and transformers, in an environment of its own (.venv-reference)
	@$(REFERENCE_BIN)/pytest --quiet tests/reference $(ARGS)

.PHONY: clean
clean:  ## remove the environments and all caches
	rm -rf $(VENV) $(REFERENCE_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis mutants build *.egg-info
	find . -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
