# Spillway. `make up` and `make test` need Linux, Python 3.11+, make and the package registries; the rest is brought.

# A distribution's Python is built with a profile of itself; one that was compiled without takes a fifth more CPU (docs/performance.md).
# Without ensurepip it can make no venv, and the next one may.
PYTHONS := /usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3.13 python3.11 python3.12 python3.13
PYTHON ?= $(shell for python in $(PYTHONS); do $$python -I -c 'import ensurepip' 2>/dev/null && echo $$python && break; done || echo python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SERVICE := $(VENV)/.service
TOOLS := $(VENV)/.tools
# Ray's part of the suite starts its own clusters; none of them needs a token.
TEST_ENVIRONMENT := RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0

# What a shell says to other programs: a Python's packages and home, a pip that installs for the user, another Ray. And ✓ is
# no reason to end where the terminal's encoding has none.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH RAY_ADDRESS RAY_AUTH_TOKEN
export PIP_USER := 0
export PYTHONIOENCODING ?= :replace
# The tests measure seconds, and who runs is to be heard: one after the other and at once, whatever MAKEFLAGS say.
.NOTPARALLEL:
MAKEFLAGS += --output-sync=none
# A .venv whose Python has gone, or has become another one, is made anew.
$(shell $(BIN)/python -I -c 'import pip' 2>/dev/null || rm -f $(SERVICE) $(TOOLS))

.DEFAULT_GOAL := help
.PHONY: help up down status letters doctor flood test chaos lint types imports unit contract distributed acceptance mutants venv tools clean clean-data
.PHONY: k8s-check k8s-render

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(SERVICE) ## Start everything, stay in the foreground; Ctrl-C drains and stops it all
	@$(BIN)/python -m cluster up

down: $(SERVICE) ## Stop a running service, or clean up after a killed one
	@$(BIN)/python -m cluster down

status: $(SERVICE) ## Addresses and numbers of the running service
	@$(BIN)/python -m cluster status

letters: $(SERVICE) ## What MongoDB refused; more with python -m cluster dead-letters --help
	@$(BIN)/python -m cluster dead-letters list

doctor: $(SERVICE) ## What is wrong with this machine, and the command that mends it
	@$(BIN)/python -m cluster doctor

flood: $(TOOLS) ## A minute of k6 against the running service, then the verification
	@$(BIN)/python -m loadtests flood

test: lint types imports unit contract distributed acceptance k8s-check ## Everything CI runs

k8s-check: $(TOOLS) ## The manifests, against a Kubernetes API server that is built once (minutes) and kept
	@RAY_USAGE_STATS_ENABLED=0 $(BIN)/python -m k8s.check $(ARGS)

k8s-render: $(SERVICE) ## Make k8s/**/serve-config.yaml again, after a change of cluster/serve.yaml
	@$(BIN)/python -m k8s.check render

mutants: $(TOOLS) ## Break each promise on purpose, and see the named test turn red
	@$(TEST_ENVIRONMENT) $(BIN)/python tests/mutants.py

chaos: $(TOOLS) ## Every fault under load against the promised seconds, about an hour; SEED=... repeats a run
	@command -v strace >/dev/null || echo "Without strace the faults of the disk are left out: apt-get install strace"
	@$(TEST_ENVIRONMENT) $(BIN)/python -m pytest tests/acceptance --chaos $(if $(SEED),--seed $(SEED)) $(CHAOS)

lint: $(TOOLS)
	@$(BIN)/ruff check .

types: $(TOOLS)
	@$(BIN)/python -m mypy

imports: $(TOOLS)
	@$(BIN)/python $(BIN)/lint-imports --no-cache

unit contract distributed acceptance: $(TOOLS)
	@if [ -n "$$(find tests/$@ -name 'test_*.py' -print -quit)" ]; then \
		$(TEST_ENVIRONMENT) $(BIN)/python -m pytest tests/$@; \
	fi

venv: $(SERVICE)
tools: $(TOOLS) ## What the load tests and the tests need on top of `make up`, into .venv

clean: down ## Stop the service, then remove its logs, run files and the virtual environment; its data stays
	@$(BIN)/python -m cluster clean
	rm -rf $(VENV)

clean-data: down ## Stop the service, then delete its data: the log, the dead letters, MongoDB's; asks first
	@$(BIN)/python -m cluster clean --data

$(SERVICE): requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Spillway needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@$(PIP) --version >/dev/null 2>&1 || { echo "Making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); } \
		|| { echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing what the service needs (about a minute, once)"
	@$(PIP) install --quiet --progress-bar on -r requirements.txt
	@touch $@

$(TOOLS): $(SERVICE) requirements-dev.txt
	@echo "Installing what the tests need (once)"
	@$(PIP) install --quiet --progress-bar on -r requirements-dev.txt
	@touch $@
