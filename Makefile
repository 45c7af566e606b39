# The verbs of this project. `make demo` and `make test` are all that a fresh machine needs.
# Python 3.11 or newer; another one: make PYTHON=python3.13 demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A second set-up is nearly free: it is done again only when what is installed changes.
STAMP := $(VENV)/.set-up
PYTEST := $(BIN)/python -m pytest
# What checks the HTML pages: npm packages, and Debian's Chromium.
WEB := tests/web
WEB_STAMP := $(WEB)/node_modules/.set-up

# Tests and demo start hundreds of processes: where nothing that was compiled is kept, each compiles leptonami anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup web web-lock demo lab lint types unit notebooks docs test lock clean notebook-outputs

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1	/' | expand -t 22

setup: $(STAMP) ## Make the environment from the lock (one to three minutes the first time)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "leptonami needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "venv is missing: apt-get install python3-venv" >&2; exit 2; }
	@echo "setting up $(VENV) from requirements.lock (one to three minutes the first time)" >&2
	@# The lock has everything: pip need not resolve it anew, and pip check says so below.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check
	@touch $@

web: $(WEB_STAMP) ## Install what checks the HTML pages, from its lock (a few seconds the first time)

$(WEB_STAMP): $(WEB)/package.json $(WEB)/package-lock.json $(WEB)/.npmrc
	@command -v npm >/dev/null || { \
	  echo "the pages are checked with npm packages and npm is missing: apt-get install npm (or make unit, which leaves those checks out)" >&2; exit 2; }
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a * 100 + +b < 1819 ? 1 : 0)' || { \
	  echo "the checks of the pages need Node.js 18.19 or newer; this one is $$(node --version)" >&2; exit 2; }
	@command -v chromium >/dev/null || { \
	  echo "the pages are looked at in Chromium and it is missing: apt-get install chromium (or make unit, which leaves those checks out)" >&2; exit 2; }
	@echo "installing what checks the pages into $(WEB)/node_modules" >&2
	@cd $(WEB) && npm ci --silent --no-progress
	@touch $@

demo: setup ## Run all notebooks on the embedded lab and recorded evidence; print where the index and the record are
	@$(BIN)/leptonami run

lab: setup ## Start the embedded AWS and print its exports
	@$(BIN)/leptonami lab up

lint: setup ## Style of the code, the scripts and the notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## The type checker, strict
	$(BIN)/mypy

# Three at once on two cores, and real processes: what fails there, and only that, is run once more, alone. Whatever fails
# twice fails; what does not is named, and is a defect all the same (CONTRIBUTING.md).
unit: setup ## Unit, contract, build and page tests
	@echo "$(PYTEST) -p no:nbval -n 3 --dist loadfile tests"
	@$(PYTEST) -p no:nbval -n 3 --dist loadfile tests || { code=$$?; test $$code -eq 1 || exit $$code; \
	  echo "failed beside others; once more, alone:"; $(PYTEST) -p no:nbval --last-failed --maxfail 3 -rA --show-capture no tests; }

notebooks: setup ## The notebooks against their kept outputs, strictly, on the lab
	$(PYTEST) -p no:xdist -p no:cacheprovider --nbval --nbval-current-env --nbval-cell-timeout=300 \
	  --nbval-sanitize-with tests/nbval_sanitize.cfg notebooks

test: web lint types unit notebooks ## Every check

notebook-outputs: setup ## Run the notebooks and keep their outputs, after a change that is meant
	@for notebook in notebooks/*.ipynb; do $(BIN)/leptonami run "$$notebook" --keep-outputs || exit; done

lock: ## Resolve the lock anew (needs uv on the PATH)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	  --no-strip-extras \
	  --upgrade pyproject.toml --extra lab --extra bench --group dev -o requirements.lock

web-lock: ## Resolve the npm lock anew: versions and digests, no address
	cd $(WEB) && rm -rf node_modules package-lock.json && npm install --package-lock-only --silent
	$(PYTHON) -c 'import json, pathlib; p = pathlib.Path("$(WEB)/package-lock.json"); lock = json.loads(p.read_text()); \
	  [entry.pop("funding", None) for entry in lock["packages"].values()]; p.write_text(json.dumps(lock, indent=2) + "\n")'

clean: ## Remove the environment and the caches; runs/ stays
	rm -rf $(VENV) $(WEB)/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
