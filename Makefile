# Every target makes what it needs first; `make` alone tells what there is.
PYTHON ?= python3
AIRFLOW_VERSION ?= 3.3.2
VENV ?= .venv$(if $(filter-out 3.3.2,$(AIRFLOW_VERSION)),-$(AIRFLOW_VERSION))
RUN = $(VENV)/bin/python
INSTALLED = $(VENV)/.installed-$(AIRFLOW_VERSION)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-browser bench lint format types screenshots constraints build clean

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

$(INSTALLED): pyproject.toml constraints/airflow-$(AIRFLOW_VERSION).txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]' 'apache-airflow==$(AIRFLOW_VERSION)' \
		--constraint constraints/airflow-$(AIRFLOW_VERSION).txt
	@touch $@

install: $(INSTALLED) ## Make .venv with Airflow, the provider and all tools

demo: $(INSTALLED) ## A real Airflow waits for a (simulated) person; KEEP=1 lets you be that person
	$(RUN) -m dev.demo $(if $(KEEP),--keep) $(if $(DEMO),--dag $(DEMO))

test: $(INSTALLED) ## Unit, integration and system tests, with coverage
	$(RUN) -m pytest -m 'not browser' --cov

test-browser: $(INSTALLED) ## Tests of the sandbox's page; needs Chromium (Debian: apt-get install chromium)
	$(RUN) -m pytest -m browser tests/browser

bench: $(INSTALLED) ## Measure what waits cost, beside the HTTP provider; half an hour. BENCH=--quick for a smoke run
	$(RUN) -m benchmarks $(BENCH)

lint: $(INSTALLED) ## Check style
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

format: $(INSTALLED) ## Mend style
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

types: $(INSTALLED) ## Check types
	$(RUN) -m mypy

screenshots: $(INSTALLED) ## Make the pictures of the README anew; needs Chromium
	$(RUN) -m dev.screenshots

constraints: ## Pin anew what a fresh resolution gives for AIRFLOW_VERSION
	$(PYTHON) -m venv --clear .venv-constraints
	.venv-constraints/bin/pip install --quiet --editable '.[dev]' 'apache-airflow==$(AIRFLOW_VERSION)'
	.venv-constraints/bin/pip freeze --exclude-editable | grep '==' > constraints/airflow-$(AIRFLOW_VERSION).txt
	rm -rf .venv-constraints

build: $(INSTALLED) ## Build the wheel into dist/
	$(RUN) -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## Remove what was made
	rm -rf $(VENV) dist build .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
