# `make demo` and `make test` are all that a new machine needs; both set the machine up first.
PYTHON ?= .venv/bin/python
READY  := .venv/.ready

.PHONY: help setup demo test torture docs check format

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(READY) ## a virtual environment in .venv with everything that was tested

$(READY): pyproject.toml constraints.txt setup_m4_dev.sh
	./setup_m4_dev.sh
	@touch $@

demo: $(READY) ## set up, then show what transit does
	.venv/bin/transit plugins

test: $(READY) ## set up, then run the tests
	$(PYTHON) -m pytest -n 2 --dist loadfile -m 'not torture'

torture: $(READY) ## the long tests: kills, leaks, whole data sets
	$(PYTHON) -m pytest -m torture

docs: $(READY) ## docs/commands.md from the options themselves
	$(PYTHON) docs/commands.py > docs/commands.md

check: $(READY) ## style, types, floors
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyrefly check
	.venv/bin/lint-imports
	$(PYTHON) docs/commands.py | diff docs/commands.md - || { echo 'docs/commands.md is stale: make docs'; exit 1; }

format: $(READY) ## put the code into its one style
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
