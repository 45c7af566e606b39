# The verbs of this project. `make demo` and `make test` are all that a fresh machine needs.
# Python 3.11 or newer; another one: make PYTHON=python3.13 demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A second set-up is nearly free: it is done again only when what is installed changes.
STAMP := $(VENV)/.set-up
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup demo lab lint types unit notebooks docs test lock clean notebook-outputs

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1	/' | expand -t 22

setup: $(STAMP) ## Make the environment from the lock (about a minute the first time)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "leptonami needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "venv is missing: apt-get install python3-venv" >&2; exit 2; }
	@echo "setting up $(VENV) from requirements.lock (about a minute the first time)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check
	@touch $@

demo: setup ## Build an AMI on the embedded lab and print where the HTML record is
	@$(BIN)/leptonami run 10_build_ami

lab: setup ## Start the embedded AWS and print its exports
	@$(BIN)/leptonami lab up

lint: setup ## Style of the code, the scripts and the notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## The type checker, strict
	$(BIN)/mypy

unit: setup ## Unit, contract, build and page tests
	$(PYTEST) -n 2 --dist loadfile tests

notebooks: setup ## The notebooks against their kept outputs, strictly, on the lab
	$(PYTEST) -p no:xdist -p no:cacheprovider --nbval --nbval-current-env --nbval-cell-timeout=300 \
	  --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks

test: lint types unit notebooks ## Every check

notebook-outputs: setup ## Run the notebooks and keep their outputs, after a change that is meant
	@for notebook in notebooks/*.ipynb; do $(BIN)/leptonami run "$$notebook" --keep-outputs || exit; done

lock: ## Resolve the lock anew (needs uv on the PATH)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	  --upgrade pyproject.toml --extra lab --group dev -o requirements.lock

clean: ## Remove the environment and the caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
