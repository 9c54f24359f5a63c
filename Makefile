# make train      sets everything up and trains a small GPT-2
# make serve      serves the latest run: a page and an API at http://127.0.0.1:8000
# make test       sets everything up and runs the tests, but for the slow ones
# make test-all   runs those as well
# make check      all tests, lint, format and types, as CI does
# make bench      measures; TEXT=input.txt adds the comparison with nanoGPT on tinyshakespeare

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := dev
# The first interpreter that runs and is supported.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

.PHONY: train serve test test-all lint check bench clean
# Compiled modules are kept: tests import them in many processes.
unexport PYTHONDONTWRITEBYTECODE

train: $(READY)
	$(BIN)/python train.py

serve: $(READY)
	$(BIN)/python -m gpt2_lightning serve

test: $(READY)
	$(BIN)/python -m pytest

test-all: $(READY)
	$(BIN)/python -m pytest -m ""

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test-all

bench: $(READY)
	$(BIN)/python -m benchmarks $(TEXT)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: GPT-2 Lightning needs Python 3.11 to 3.13; install one of them" >&2; exit 2; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
