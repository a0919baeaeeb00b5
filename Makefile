# `make demo` and `make test` are all that a new machine needs; both set the machine up first.
PYTHON ?= .venv/bin/python
READY  := .venv/.ready

.PHONY: help setup demo test torture bench docs site networks check format

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(READY) ## a virtual environment in .venv with everything that was tested

$(READY): pyproject.toml constraints.txt setup_m4_dev.sh
	./setup_m4_dev.sh
	@touch $@

demo: $(READY) ## set up, train on a simulated set, show how good the network is
	rm -rf runs/demo
	.venv/bin/transit train --out runs/demo
	.venv/bin/transit evaluate runs/demo
	@echo "Now try your own star: .venv/bin/transit search FOLDER found.csv, then .venv/bin/transit vet found.csv FOLDER vetted"

test: $(READY) ## set up, then run the tests
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not torture'

torture: $(READY) ## the long tests: kills, leaks, whole data sets
	$(PYTHON) -m pytest -m torture

bench: $(READY) ## every figure that the documentation quotes, in one table and build/bench.json (DEVICE=cuda)
	$(PYTHON) benchmarks/report.py --device $(or $(DEVICE),cpu)

docs: $(READY) ## docs/commands.md from the options themselves
	$(PYTHON) docs/commands.py > docs/commands.md

site: $(READY) ## the documentation as a site in build/site
	$(PYTHON) -m pip install --quiet --group docs
	$(PYTHON) -m mkdocs build --strict

check: $(READY) ## style, types, layers, import cycles
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyrefly check
	.venv/bin/lint-imports
	$(PYTHON) tools/import_cycles.py
	$(PYTHON) docs/commands.py | diff docs/commands.md - || { echo 'docs/commands.md is stale: make docs'; exit 1; }

format: $(READY) ## put the code into its one style
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

networks: $(READY) ## the networks that come with transit, trained anew on simulated sets (docs/network_card.md)
	rm -rf build/sim-201-61 build/network-201-61 build/network-201-61-secondary build/sim-2001-201 build/network-2001-201
	.venv/bin/transit data simulate build/sim-201-61 --mission tess --tces 40000 --seed 1 --secondary
	.venv/bin/transit train build/sim-201-61 --target classes --members 5 --epochs 1 --learning-rate 3e-3 \
	  --batch-size 128 --out build/network-201-61
	.venv/bin/transit train build/sim-201-61 --target classes --views global,local,secondary --unit-depth secondary \
	  --members 5 --epochs 1 --learning-rate 3e-3 --batch-size 128 --mixup 0.2 --out build/network-201-61-secondary
	.venv/bin/transit data simulate build/sim-2001-201 --mission kepler --tces 1500 --seed 1
	.venv/bin/transit train build/sim-2001-201 --target PC,EB --scalars= --members 2 --epochs 12 --seed 1 \
	  --learning-rate 5e-3 --device cpu --out build/network-2001-201
	for bins in 201-61 201-61-secondary 2001-201; do \
	  cp build/network-$$bins/model.safetensors transit_cli/model/weights/$$bins.safetensors || exit 1; \
	done
