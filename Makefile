# Every target sets up .venv first if needed. ARGS passes options:
#   make run ARGS="--dataset drawn --epochs 5"

PYTHON ?= python3
VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-all lint bench samples clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/.ready  ## Set up .venv; the other targets do this when needed

run: .venv/.ready  ## Run the pipeline: download MNIST, train, export, evaluate, score samples/
	$(VENV) -m flows.pipeline $(ARGS)

demo: .venv/.ready  ## Open a page to draw digits on and watch the network read them
	$(VENV) -m nnpipe.cli demo $(ARGS)

test: .venv/.ready  ## Run the fast tests, about three minutes
	$(VENV) -m pytest $(ARGS)

test-all: .venv/.ready  ## Run all tests, including the slow ones
	$(VENV) -m pytest -m "slow or not slow" $(ARGS)

lint: .venv/.ready  ## Check style and types
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy

bench: .venv/.ready  ## Run the benchmarks, write benchmarks/results.md; ARGS="scoring 'pictures SETS'" selects some
	$(VENV) benchmarks $(ARGS)

samples: .venv/.ready  ## Draw samples/ again
	$(VENV) tests/make_samples.py

clean:  ## Remove .venv, but keep data, runs and reports
	rm -rf .venv

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nnpipe needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "Setting up .venv: three to four minutes and 6 GB, once"
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@
