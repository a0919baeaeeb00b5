# `make demo` and `make test` are all that a new machine needs; both set the machine up first.
PYTHON ?= .venv/bin/python
READY  := .venv/.ready

.PHONY: help setup demo test check format

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(READY) ## a virtual environment in .venv with everything that was tested

$(READY): pyproject.toml constraints.txt setup_m4_dev.sh
	./setup_m4_dev.sh
	@touch $@

demo: $(READY) ## set up, then show what transit does
	.venv/bin/transit plugins

test: $(READY) ## set up, then run the tests
	$(PYTHON) -m pytest -n 2

check: $(READY) ## style, types, floors
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyrefly check
	.venv/bin/lint-imports

format: $(READY) ## put the code into its one style
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
