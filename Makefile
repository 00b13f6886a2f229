# `make run` starts a node, `make test` runs the tests; both prepare what they need. PYTHON picks the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
TESTS ?=
JOBS ?= auto
BENCH ?= validate canonical ingest growth box_stream rpc replicate reconnect start http reads memory

.DEFAULT_GOAL := help
.PHONY: help run test check format bench clean

help: ## list what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

# An interrupted preparation leaves no stamp, so the next call begins it again.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pysbot needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python -a -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { echo "No virtual environment could be made; on Debian install the package python3-venv." >&2; exit 1; }
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.developer: pyproject.toml $(VENV)/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed

run: $(VENV)/.installed ## start a node; ARGS="--path D --port 0" hands it flags
	@exec $(BIN)/sbot start $(ARGS)

test: $(VENV)/.developer ## run the tests, a process for each core; TESTS=tests/feeds narrows them, JOBS=0 runs them in one
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TESTS)

check: $(VENV)/.developer ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.developer ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.developer ## run the benchmarks, each printing JSON; BENCH="validate ingest" picks some
	@for name in $(BENCH); do echo "== $$name" >&2; $(BIN)/python -m tests.benchmarks.$$name || exit 1; done

clean: ## remove what was made here; feeds and keys (~/.pysbot) are never touched
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .interop build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
