# Every target sets up .venv itself when needed. Options go on the command line:
#   make run ARGS="--dataset drawn --epochs 5"

PYTHON ?= python3
VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-all lint bench samples clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/.ready  ## Set up .venv, which the other targets do, too, when needed

run: .venv/.ready  ## Download MNIST, train, export, evaluate and score samples/, in Prefect
	$(VENV) -m flows.pipeline $(ARGS)

demo: .venv/.ready  ## Open a page where one draws digits and watches the network read them
	$(VENV) -m nnpipe.cli demo $(ARGS)

test: .venv/.ready  ## Run the fast tests
	$(VENV) -m pytest $(ARGS)

test-all: .venv/.ready  ## Run all tests, the slow ones included
	$(VENV) -m pytest -m "slow or not slow" $(ARGS)

lint: .venv/.ready  ## Check style and types
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy

bench: .venv/.ready  ## Run the benchmarks into benchmarks/results.md; ARGS="scoring 'pictures SETS'" picks some
	$(VENV) benchmarks $(ARGS)

samples: .venv/.ready  ## Draw samples/ anew
	$(VENV) tests/make_samples.py

clean:  ## Remove .venv; data, runs and reports stay
	rm -rf .venv

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nnpipe needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Setting up .venv: some three minutes and 6 GB, once"
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@
