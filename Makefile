# Every target makes what it needs first; `make` alone lists the targets.
PYTHON ?= python3
AIRFLOW_VERSION ?= 3.3.2
VENV ?= .venv$(if $(filter-out 3.3.2,$(AIRFLOW_VERSION)),-$(AIRFLOW_VERSION))
RUN = $(VENV)/bin/python
INSTALLED = $(VENV)/.installed-$(AIRFLOW_VERSION)
# The tests on PostgreSQL and Celery run in the newest Airflow alone, and the documentation is built there.
EXTRAS = dev$(if $(filter 3.3.2,$(AIRFLOW_VERSION)),$(comma)test-production$(comma)docs)
comma = ,

# Without bytecode, each part of Airflow and each process of the tests compiles all that it imports when it starts.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-units test-system test-events test-clients test-benchmarks test-production test-browser test-matrix check-wheel bench bench-export bench-events lint format types screenshots docs constraints build release-check clean

help: ## Show this help
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

$(INSTALLED): pyproject.toml constraints/airflow-$(AIRFLOW_VERSION).txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check uv --constraint constraints/airflow-$(AIRFLOW_VERSION).txt
	$(RUN) -m uv pip install --quiet --python $(RUN) --editable '.[$(EXTRAS)]' 'apache-airflow==$(AIRFLOW_VERSION)' \
		--constraint constraints/airflow-$(AIRFLOW_VERSION).txt
	@touch $@

install: $(INSTALLED) ## Make .venv with Airflow, the provider and all tools

demo: $(INSTALLED) ## A real Airflow waits for a (simulated) person; KEEP=1 lets you be that person
	$(RUN) -m dev.demo $(if $(KEEP),--keep) $(if $(DEMO),--dag $(DEMO))

# Percent of the lines and branches that run in the processes of the unit and integration tests.
COVERAGE = 97

test: $(INSTALLED) ## Unit, integration and system tests, with coverage. ORDER=random to shuffle the first two
	$(MAKE) --jobs=3 test-events test-system test-units

test-units: $(INSTALLED)
	$(RUN) -m pytest $(if $(filter random,$(ORDER)),-p randomly) -m 'not browser and not system' \
		--numprocesses 2 --dist worksteal --cov --cov-fail-under $(COVERAGE)

# What needs PostgreSQL, Celery, OpenLineage, several triggerers or much time. Others of tests/system can run there, too.
IN_PRODUCTION = $(addprefix tests/system/,production test_deployment.py test_gate_shapes.py test_lineage.py)
# What the other system tests test too, in the newest Airflow.
IN_MATRIX = tests/system/test_every_airflow.py

# They mostly wait, so there are more of them at a time than processors.
test-system: $(INSTALLED)
	$(RUN) -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder tests/system \
		$(addprefix --deselect=,tests/system/test_events.py $(IN_PRODUCTION) $(IN_MATRIX))

# They kill parts of Airflow, so they have one of their own.
test-events: $(INSTALLED)
	$(RUN) -m pytest tests/system/test_events.py

test-clients: $(INSTALLED) ## Tallyfy's official Python SDK drives the sandbox, with each of its methods
	$(RUN) -m pytest tests/sandbox/test_official_sdk.py

test-production: $(INSTALLED) ## Tests on PostgreSQL and Celery; needs both (Debian: apt-get install postgresql redis-server)
	$(RUN) -m pytest --production $(IN_PRODUCTION)

test-benchmarks: $(INSTALLED) ## The smallest case of each benchmark
	$(RUN) -m pytest tests/benchmarks

test-browser: $(INSTALLED) ## Tests of the sandbox's page and Airflow's; needs Chromium (Debian: apt-get install chromium)
	$(RUN) -m pytest -m browser tests/browser

test-matrix: $(INSTALLED) ## The built wheel in every Airflow and Python that is served; an hour. MATRIX=--quick for less
	$(RUN) -m dev.matrix $(or $(MATRIX),--write)

check-wheel: $(INSTALLED) ## Check that the wheel builds reproducibly, holds what it should, and imports fast
	$(RUN) -m dev.wheel

bench: $(INSTALLED) ## Measure what waits cost, beside the HTTP provider; 25 minutes. BENCH=--quick for a short run
	$(RUN) -m benchmarks $(BENCH)

bench-export: $(INSTALLED) ## Measure exports of 1,000 to 100,000 runs, beside a simple script; 10 minutes. BENCH=--quick for a short run
	$(RUN) -m benchmarks.export $(BENCH)

bench-events: $(INSTALLED) ## Measure what watchers of events cost, and kill the triggerer; 12 minutes. BENCH=--quick for a short run
	$(RUN) -m benchmarks.events $(BENCH)

lint: $(INSTALLED) ## Check style
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	git ls-files -z | xargs -0 $(VENV)/bin/codespell

format: $(INSTALLED) ## Fix formatting
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

types: $(INSTALLED) ## Check types
	$(RUN) -m mypy

docs: $(INSTALLED) ## Build the documentation site into build/docs
	AIRFLOW_HOME=$(CURDIR)/build/airflow $(RUN) -m sphinx --fail-on-warning --keep-going --quiet docs build/docs

screenshots: $(INSTALLED) ## Make the pictures of the documentation, in both Airflows; needs Chromium
	$(RUN) -m dev.screenshots
ifeq ($(AIRFLOW_VERSION),3.3.2)
	$(MAKE) screenshots AIRFLOW_VERSION=2.11.2
endif

# An Airflow is pinned with what was current when it came out; what the provider's own tests need is newer.
AS_OF_2.11.2 = 2026-04-01
AS_OF_3.0.6 = 2025-09-15
AS_OF_3.1.8 = 2026-04-01
AS_OF_3.2.2 = 2026-07-01
AS_OF_3.3.2 = 2026-11-20

constraints: $(INSTALLED) ## Pin what AIRFLOW_VERSION came out with
	echo 'apache-airflow==$(AIRFLOW_VERSION)' | $(RUN) -m uv pip compile --quiet pyproject.toml $(addprefix --extra ,$(subst $(comma), ,$(EXTRAS))) --constraint - \
		--python-version 3.11 --no-header --no-annotate --exclude-newer $(or $(AS_OF_$(AIRFLOW_VERSION)),$(error AS_OF_$(AIRFLOW_VERSION) is to be set)) \
		--exclude-newer-package tallyfy=2026-11-01 $(if $(filter 3.0.6,$(AIRFLOW_VERSION)), \
		--exclude-newer-package apache-airflow-providers-common-compat=2026-04-01) \
		--output-file constraints/airflow-$(AIRFLOW_VERSION).txt

build: $(INSTALLED) ## Build the wheel into dist/
	$(RUN) -m uv build --quiet --wheel --build-constraints constraints/build.txt

release-check: $(INSTALLED) ## Build wheel and sdist into dist/, and check what a release publishes. TAG=v1.2.3 to be strict
	$(RUN) -m dev.release $(if $(TAG),--tag $(TAG))

clean: ## Remove what was made
	rm -rf $(VENV) dist build .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
