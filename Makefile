# Two commands do everything on a machine that has Python 3.11 to 3.13 and pip: `make demo` and `make test`.
# Each makes its own environment in .venv; the second time it is there already. `make PYTHON=python3.13 test` takes
# another interpreter, and makes .venv anew where it was made with one of another version.
VENV   := .venv
BIN    := $(VENV)/bin
KILLS  ?= 10
SEED   ?= 0
TORCH  ?=
TESTS  ?= tests/unit redistill
# TORCH=cpu takes torch's CPU build (0.9 GB in place of 4.7 GB) where its index can be reached.
BACKEND := $(if $(TORCH),--torch-backend $(TORCH),)
export OMP_WAIT_POLICY ?= passive

# A name may be there and not run (a shim of pyenv), so each is asked. It answers "3.11 /path/of/python3.11": the
# interpreter below a virtual environment, since .venv, which is asked first, may have to be made anew.
ASK    := import sys; assert (3, 11) <= sys.version_info < (3, 14); print("%d.%d" % sys.version_info[:2], sys._base_executable)
FOUND  := $(shell for python in $(or $(PYTHON),$(BIN)/python python3.11 python3.12 python3.13 python3); do \
            "$$python" -c '$(ASK)' 2>/dev/null && break; done)
SERIES := $(firstword $(FOUND))
UV     := $(VENV)/lib/python$(SERIES)/site-packages/uv
STAMP  := $(VENV)/.installed-$(SERIES)-

.PHONY: demo test test-fast lint docs bench faults clean help

help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# Every target stands or falls with these links; Windows, and what unpacks zip files there, may leave text files instead.
ifeq ($(wildcard redistill/streams/__init__.py),)
$(error redistill/streams is no symbolic link to ../streams in this checkout: say `git config core.symlinks true` and \
`git checkout -- redistill` (on Windows in developer mode), and take a clone, not a zip file)
endif

$(UV):
	@$(if $(SERIES),,echo "redistill needs Python 3.11, 3.12 or 3.13 (say make PYTHON=/path/to/python3.11)" >&2; exit 2)
	rm -rf $(VENV)
	"$(wordlist 2,99,$(FOUND))" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# bytecode is compiled once, at the install: commands start in half the time, and tests start hundreds
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(BACKEND) -c constraints.txt

$(STAMP)demo: pyproject.toml constraints.txt | $(UV)
	@echo "installing redistill and what it needs into $(VENV) (torch is the large part; the second time is fast)"
	$(INSTALL) -e '.[demo]'
	@touch $@

$(STAMP)dev: pyproject.toml constraints.txt | $(UV)
	@echo "installing redistill, its tests and what they need into $(VENV) (torch is the large part; the second time is fast)"
	$(INSTALL) -e '.[dev]'
	@touch $@ $(STAMP)demo

demo: $(STAMP)demo ## drift caught and repaired before your eyes, no server needed
	$(BIN)/redistill demo $(ARGS)

test: $(STAMP)dev lint ## everything: lint, types, architecture, unit, integration, faults, the demo
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

test-fast: $(STAMP)dev ## only what needs no server and little time; TESTS=tests/unit/ROOM for one room
	$(BIN)/python -m pytest $(TESTS) $(ARGS)

lint: $(STAMP)dev ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)dev ## tables and picture that the documents take from the code
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/picture.py

bench: $(STAMP)dev ## measured speed and quality, each beside a baseline in the same run
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

faults: $(STAMP)dev ## KILLS=n random kill -9 of workers under load on a real Kafka, then check-history
	$(BIN)/python tests/faults/run.py --kills $(KILLS) --seed $(SEED) $(ARGS)

constraints.txt: ## pin what pyproject.toml allows, for every Python that it allows (make -B constraints.txt)
	$(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --all-extras --no-header --no-emit-index-url --no-annotate -o $@

clean: ## remove the environment and caches
	rm -rf $(VENV) .venv-* .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
