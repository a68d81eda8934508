# Two commands do everything on a machine that has Python 3.11 and pip: `make demo` and `make test`.
# Each makes its own environment in .venv; the second time it is there already.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-
KILLS  ?= 10
SEED   ?= 0
TORCH  ?=
# TORCH=cpu takes torch's CPU build (0.9 GB in place of 4.7 GB) where its index can be reached.
# bytecode is compiled once, at the install: commands start in half the time, and tests start hundreds
BACKEND := $(if $(TORCH),--torch-backend $(TORCH),)
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-fast lint bench faults clean help

help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null || \
	  { echo "redistill needs Python 3.11 or 3.12 (say make PYTHON=/path/to/python3.11)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(STAMP)demo: pyproject.toml constraints.txt | $(BIN)/uv
	@echo "installing redistill and what it needs into $(VENV) (torch is the large part; the second time is fast)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(BACKEND) -c constraints.txt -e '.[demo]'
	@touch $@

$(STAMP)dev: pyproject.toml constraints.txt | $(BIN)/uv
	@echo "installing redistill, its tests and what they need into $(VENV) (torch is the large part; the second time is fast)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(BACKEND) -c constraints.txt -e '.[dev]'
	@touch $@ $(STAMP)demo

demo: $(STAMP)demo ## drift caught and repaired before your eyes, no server needed
	$(BIN)/redistill demo $(ARGS)

test: $(STAMP)dev lint ## everything: lint, types, architecture, unit, integration, faults, the demo
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

test-fast: $(STAMP)dev ## only what needs no server and little time
	$(BIN)/python -m pytest tests/unit streams compress workers $(ARGS)

lint: $(STAMP)dev ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)dev ## measured speed and quality, each beside a baseline in the same run
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

faults: $(STAMP)dev ## KILLS=n random kill -9 of workers under load on a real Kafka, then check-history
	$(BIN)/python tests/faults/run.py --kills $(KILLS) --seed $(SEED) $(ARGS)

constraints.txt: ## pin what pyproject.toml allows (make -B constraints.txt)
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --no-header --no-emit-index-url --no-annotate --python-version 3.11 -o $@

clean: ## remove the environment and caches
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
