# Two commands do everything on a machine that has Python 3.11 to 3.13 and pip: `make demo` and `make test`.
# Each makes its own environment in .venv; the second time it is there already. `make PYTHON=python3.13 test` takes
# another interpreter, and makes .venv anew where it was made with one of another version.
VENV   := .venv
BIN    := $(VENV)/bin
KILLS  ?= 10
SEED   ?= 0
MINUTES ?= 15
SCENARIOS ?=
TORCH  ?=
TESTS  ?= tests/unit redistill
# Tests of deaths, sessions and outages wait eight seconds for each that they work: four at once keep two cores busy.
JOBS   ?= 4
# TORCH=cpu takes torch's CPU build (0.9 GB in place of 4.7 GB) where its index can be reached. That build alone, and what
# it is told to bring, is not held to a hash: the lock has those of the usual index.
export OMP_WAIT_POLICY ?= passive

# A name may be there and not run (a shim of pyenv), so each is asked. It answers "3.11 /path/of/python3.11": the
# interpreter below a virtual environment, since .venv, which is asked first, may have to be made anew.
ASK    := import sys; assert (3, 11) <= sys.version_info < (3, 14); print("%d.%d" % sys.version_info[:2], sys._base_executable)
FOUND  := $(shell for python in $(or $(PYTHON),$(BIN)/python python3.11 python3.12 python3.13 python3); do \
            "$$python" -c '$(ASK)' 2>/dev/null && break; done)
SERIES := $(firstword $(FOUND))
UV     := $(VENV)/lib/python$(SERIES)/site-packages/uv
STAMP  := $(VENV)/.installed-$(SERIES)-

.PHONY: demo test test-fast lint docs bench bench-detection bench-gates bench-compression bench-repair faults soak locks clean help

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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/bootstrap.txt

# Everything is installed by the hashes of the locks, the build backend of redistill itself included. Bytecode is compiled
# once, here: commands start in half the time, and tests start hundreds.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
OTHERS  := awk '/^[a-z]/ { other = !/^(torch|triton)==|^(nvidia|cuda)-/ } other'
define install
	$(if $(TORCH),$(OTHERS) $(1) >$(VENV)/others.txt)
	$(INSTALL) --require-hashes $(if $(TORCH),--no-deps -r $(VENV)/others.txt,-r $(1))
	$(if $(TORCH),$(INSTALL) --torch-backend $(TORCH) "$$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' $(1))")
	$(INSTALL) --no-deps --build-constraints locks/bootstrap.txt -e .
endef

$(STAMP)demo: pyproject.toml locks/demo.txt locks/bootstrap.txt | $(UV)
	@echo "installing redistill and what it needs into $(VENV) (torch is the large part; the second time is fast)"
	$(call install,locks/demo.txt)
	@touch $@

$(STAMP)dev: pyproject.toml locks/dev.txt locks/bootstrap.txt | $(UV)
	@echo "installing redistill, its tests and what they need into $(VENV) (torch is the large part; the second time is fast)"
	$(call install,locks/dev.txt)
	@touch $@ $(STAMP)demo

demo: $(STAMP)demo ## drift caught and repaired before your eyes, no server needed
	$(BIN)/redistill demo $(ARGS)

test: $(STAMP)dev lint ## everything: lint, types, architecture, unit, integration, faults, the demo
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

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

bench-detection: $(STAMP)dev ## how well harm is found, beside others (hours; a stopped run goes on; ARGS="--seeds 1 --suites real" for a glance)
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/detection.py --ablation --peers --costs $(ARGS)

bench-gates: $(STAMP)dev ## what the gates let through and hold up, beside the bars (minutes; ARGS="fresh --effort 0.1" for a glance)
	OMP_NUM_THREADS=1 $(BIN)/python tests/benchmarks/gates.py $(ARGS)

bench-compression: $(STAMP)dev ## ten models of other libraries, harmed and repaired, beside other tools (half an hour; ARGS="wine --peers")
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/compression.py $(ARGS)

bench-repair: $(STAMP)dev ## incidents answered by redistill, on every alarm, by the calendar, by River, by nobody (half an hour; ARGS="--seeds 1")
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/benchmarks/repairs.py $(ARGS)

faults: $(STAMP)dev ## trouble of every named kind under load; SCENARIOS=freeze,hung-database KILLS=n SEED=n ARGS=--list
	$(BIN)/python tests/faults/run.py --scenarios "$(SCENARIOS)" --kills $(KILLS) --seed $(SEED) --report docs/fault-report.md $(ARGS)

soak: $(STAMP)dev ## 2,000 rows/s for MINUTES=n with an incident every two minutes; memory, descriptors, WAL and logs stay bounded
	$(BIN)/python tests/faults/soak.py --minutes $(MINUTES) --seed $(SEED) --report docs/fault-report.md $(ARGS)

# of the demo what the tests have too; bootstrap is what installs and builds the rest
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate $(ARGS)

locks: | $(UV) ## pin, with hashes, what pyproject.toml allows, for every Python that it allows (ARGS=--upgrade: the newest)
	$(LOCK) pyproject.toml --all-extras -o locks/dev.txt
	$(LOCK) pyproject.toml --extra demo -c locks/dev.txt -o locks/demo.txt
	printf 'uv\nsetuptools>=77\n' | $(LOCK) - -c locks/dev.txt -o locks/bootstrap.txt

clean: ## remove the environment and caches
	rm -rf $(VENV) .venv-* .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
