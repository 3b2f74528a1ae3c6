# Each target does all of its own set-up, in a virtual environment of the project's.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXPERIMENT ?=
PUBLISH ?= published
# Threads that wait by spinning would take the cores from those that work.
export OMP_WAIT_POLICY ?= PASSIVE
# Hundreds of tests start a process: each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo demo-groups test pytest test-slow test-faults lint bench table retrain docs clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## install llmrec and the development tools into .venv

# pip, not another installer: it is what finds the CPU build of torch (docs/decisions/0001-dependencies.md).
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "llmrec needs Python 3.11 or newer; set PYTHON=<path>" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup ## the five stages on MovieLens-100K, ending with a report and recommendations
	BIN=$(BIN) sh scripts/demo.sh

demo-groups: setup ## groups on MovieLens-100K; LINKS=<file> adds what the knowledge graph knows of films
	BIN=$(BIN) LINKS=$(LINKS) sh scripts/demo_groups.sh

test: setup ## lint and the tests, side by side
	@$(MAKE) --no-print-directory -j 2 lint pytest

pytest: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: setup ## what takes long: the other parameters, Spark, torchrun, kills, benchmarks at toy size
	ALL_EXAMPLES=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m '(slow or hypothesis) and not faults'

test-faults: setup ## a thousand kills and power cuts, 42,000 damaged inputs, thousands of torn reads (half an hour)
	$(BIN)/python -m pytest -m faults

lint: setup ## style, types and the import contract
	$(BIN)/ruff check llmrec_cli tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## the figures of docs/experiments.md, measured on this machine (half an hour)
	$(BIN)/llmrec prepare experiment=movielens_100k
	for script in benchmarks/evaluate.py benchmarks/prepare.py benchmarks/startup.py benchmarks/heads/run.py benchmarks/scaling.py; do \
		echo "== $$script"; $(BIN)/python $$script || exit 1; done

table: setup ## the table of an experiment, EXPERIMENT=movielens_1m; SET="dataset.links=<file>" for what prepare needs
	$(BIN)/python benchmarks/table.py $(or $(EXPERIMENT),movielens_100k) $(SET)

# make ends with 2 whatever the script's exit code is; a scheduler that reads the code runs the script itself.
retrain: setup ## a scheduled run on files of yours, PREPARE="dataset=files dataset.interactions=<file>", PUBLISH=<folder>
	LLMREC="$${LLMREC:-$(BIN)/llmrec}" sh scripts/retrain.sh "$(PUBLISH)" $(EXPERIMENT:%=experiment=%)

docs: setup ## write docs/metrics.md and docs/settings.md from the code, and build the site, site/index.html
	$(BIN)/python -m llmrec_cli.metrics.table >docs/metrics.md
	$(BIN)/python -m llmrec_cli.settings_page >docs/settings.md
	$(BIN)/python scripts/build_site.py site

clean: ## remove caches and builds; data, runs and what was published stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
