PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
RESULTS ?= results
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
quoted = '$(subst ','\'',$(1))'
# what is imported is compiled then, by all processes at once; pip would compile all, one by one
INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)

.PHONY: help run smoke verify test docs links oldest bench lint cluster-ready format check config-reference lock clean

help:
	@echo "make run     every figure, claim and the page (CONFIG=config/paper.yaml CORES=8 to change)"
	@echo "make smoke   the same workflow at toy scale"
	@echo "make verify  check a finished tree against its manifest (RESULTS=results/paper)"
	@echo "make cluster-ready  is there a Slurm, and does it suit? (docs/how-to/cluster.md)"
	@echo "make bench   side-by-side timings"
	@echo "make test    lint and the whole test suite"
	@echo "make docs    the documentation site (docs/_build/html/docs/index.html)"
	@echo "make links   do the documentation's links to other sites still lead somewhere?"
	@echo "make oldest  the library's tests on the oldest packages that it takes"
	@echo "make check   validate CONFIG without running anything"
	@echo "make clean   delete results and caches, keep the environment"

$(READY): requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sharpflow needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -r requirements.txt
	@touch $@

run: $(READY)
	@python -m sharpflow.config check $(call quoted,$(CONFIG))
	python -m sharpflow.launch --cores $(call quoted,$(CORES)) --configfile $(call quoted,$(CONFIG))

smoke: $(READY)
	python -m sharpflow.launch --cores $(call quoted,$(CORES)) --configfile config/smoke.yaml

test: $(READY) lint
	$(BIN)/python $(INSTALL) -r requirements.txt -r tests/peers.txt -r tests/storage.txt -r tests/browser.txt -r docs/requirements.txt
	$(BIN)/python $(INSTALL) --no-deps -r benchmarks/requirements.txt -r tests/alone.txt
	python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

docs: $(READY)
	$(BIN)/python $(INSTALL) -r docs/requirements.txt
	sphinx-build --quiet --fail-on-warning --keep-going -c docs -d docs/_build/doctrees . docs/_build/html
	@echo "Open docs/_build/html/docs/index.html"

links: $(READY)
	$(BIN)/python $(INSTALL) -r docs/requirements.txt
	sphinx-build --quiet -b linkcheck -c docs -d docs/_build/doctrees . docs/_build/links

oldest:
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python $(INSTALL) -r tests/oldest.txt
	$(VENV)-oldest/bin/python -m pytest --noconftest tests/unit/test_curvature_*.py tests/unit/test_symmetry_*.py

lint: $(READY)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow rules
	snakemake --lint
	pyright

format: $(READY)
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow rules

bench: $(READY)
	$(BIN)/python $(INSTALL) --no-deps -r benchmarks/requirements.txt
	python -m benchmarks.curvature
	python -m benchmarks.general && python -m benchmarks.general --large --threads 2
	python -m benchmarks.ensemble
	python -m benchmarks.flows
	python -m benchmarks.balance
	python -m benchmarks.paper_run --threads 2
	python -m benchmarks.paper_run --threads 2 --model cnn
	python -m benchmarks.first_minute

cluster-ready: $(READY)
	@python -m sharpflow.cluster

verify: $(READY)
	@python -m sharpflow.verify $(call quoted,$(RESULTS))

check: $(READY)
	python -m sharpflow.config check $(call quoted,$(CONFIG))

config-reference: $(READY)
	python -m sharpflow.config schema > config/schema.json
	python -m sharpflow.config reference > config/README.md

lock: $(READY)
	python tests/unit/lock.py > constraints.tmp && mv constraints.tmp constraints.txt

clean:
	rm -rf results docs/_build .snakemake .pytest_cache .ruff_cache .hypothesis
