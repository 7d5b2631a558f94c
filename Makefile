# Two commands do all set-up: `make study` and `make test`. Both make the virtual environment .venv where it is missing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SIZE ?= whole
# A process of tests for each core, each with whole files and a Ray of its own of two cores: 3 GB each
SIDE_BY_SIDE := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# Compiled modules are kept, whatever the environment says (containers often forbid it): else each of the hundred
# processes of the tests, commands and Ray's workers compiles them anew
export PYTHONDONTWRITEBYTECODE :=

.PHONY: study test tests types chaos mutants lint clean

study: $(READY)  ## align, pretrain, sweep, 82 folds, report, a model, on the synthetic people
	$(BIN)/python -m study.tour --size $(SIZE)

test: $(READY)  ## linters, types, import contracts, all tests; FAST=1: without the slow tests (about a minute)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory --jobs 2 types tests || \
		{ status=$$?; [ ! -f $(VENV)/types.log ] || cat $(VENV)/types.log; exit $$status; }

tests: $(READY)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(if $(FAST),--fast)

# Beside the tests, and said in one piece: when they end, and where they failed again at the end
types: $(READY)
	@{ $(BIN)/mypy && $(BIN)/lint-imports; } > $(VENV)/types.log 2>&1; status=$$?; cat $(VENV)/types.log; \
		[ $$status -ne 0 ] || rm $(VENV)/types.log; exit $$status

chaos: $(READY)  ## faults on purpose in all stages: an hour or two; CHAOS='--stages lopo' for some of it
	$(BIN)/python -m tests.chaos $(CHAOS)

mutants: $(READY)  ## known mistakes built in, each of which a test must catch; MUTANTS='dropout lag' for some of them
	$(BIN)/python -m tests.mutants $(MUTANTS)

lint: $(READY)  ## what `make test` checks before the tests, fixed where it can be
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV), once: about 4 GB to download and 8 GB on the disk, most of it torch with its CUDA libraries."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@echo "[1/2] torch: about 3 GB ..."
	@$(PIP) -c constraints.txt torch torchvision
	@echo "[2/2] Ray, MLflow, Optuna and 150 smaller packages: about 1 GB ..."
	@$(PIP) -c constraints.txt -e '.[dlib,lite,dev]'
	@touch $(READY)
	@echo "The environment is complete."

clean:  ## forget what `make study` made, not the environment
	rm -rf runs mlruns/mlflow.db* mlruns/artifacts
