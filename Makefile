# Needs Python 3.11 or newer, make and bash. All it makes lies in .venv/, .demo/ and dist/.

NEWEST   := 3.3.2
VERSIONS := 2.11.2 3.1.8 $(NEWEST)
MATRIX   ?= $(VERSIONS) lowest
VENV     ?= .venv
USERS    ?= 500
RUNS     ?= 2400
SEED     ?= 0
ARGS     ?=

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:

# The first Python that is new enough; `make PYTHON=/path/to/python3 ...` takes another one.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  "$$p" -c "$(NEW_ENOUGH)" 2>/dev/null && { echo "$$p"; break; }; done)
endif

# uv fetches no Python of its own; no environment that happens to be active is read.
export UV_PYTHON_DOWNLOADS := never
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

ENV := $(VENV)/airflow-$(NEWEST)
BIN := $(ENV)/bin
UV  := $(VENV)/boot/bin/uv

##@ Use it

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(ENV)/.run ## Run the real DAG in real Airflow on a sandbox account (USERS=500)
	@exec $(BIN)/python -m tools.demo --users $(USERS) $(ARGS)

.PHONY: up
up: $(ENV)/.run ## Start the sandbox and Airflow with the example DAGs on 127.0.0.1; Ctrl-C ends them
	@exec $(BIN)/python -m tools.up --users $(USERS) $(ARGS)

.PHONY: scale-demo
scale-demo: $(VENV)/airflow-scale/.scale ## Run everything on two Celery workers without a shared disk, and kill one (USERS=50000)
	@exec $(VENV)/airflow-scale/bin/python -m tools.scale $(if $(filter command line,$(origin USERS)),--users $(USERS)) $(ARGS)

##@ Check it

.PHONY: test
test: $(ENV)/.test ## Run every test on the newest Airflow, on all cores (ARGS="-k hook -x")
	@$(BIN)/python -m tools.test_needs
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

.PHONY: chaos
chaos: $(ENV)/.test ## Play thousands of seeded runs under faults (RUNS=2400 SEED=0)
	@CHAOS_RUNS=$(RUNS) CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -n auto -q tests/chaos $(ARGS)

.PHONY: test-matrix
test-matrix: ## Run the same tests on each Airflow, with the lowest versions, and check the wheel
	@for v in $(MATRIX); do $(MAKE) --no-print-directory test-airflow-$$v; done
	@$(MAKE) --no-print-directory test-wheel

test-airflow-%: $(VENV)/airflow-%/.test
	@printf '\n== Tests on Airflow %s\n' $*
	@$(VENV)/airflow-$*/bin/python -m pytest -n auto --dist loadfile $(ARGS)

.PHONY: test-wheel
test-wheel: $(ENV)/.test ## Build wheel and sdist, install them on each Airflow, ask Airflow about them
	@printf '\n== Wheel and sdist\n'
	@$(BIN)/python -m tools.check_wheel --uv $(UV) --venv $(VENV) $(VERSIONS)

.PHONY: lint
lint: $(ENV)/.dev ## Lint and check the format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: format
format: $(ENV)/.dev ## Put the code in its format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: types
types: $(ENV)/.dev ## Check the types
	@$(BIN)/mypy

.PHONY: audit
audit: $(VENV)/boot/.done ## Look every pinned version up among the known vulnerabilities; asks PyPI
	@$(VENV)/boot/bin/python tools/audit.py --uv $(UV) $(ARGS)

.PHONY: bench
bench: $(ENV)/.test ## Measure
	@$(BIN)/python benchmarks/run.py $(ARGS)

##@ Make it

.PHONY: env
env: $(ENV)/.dev ## Build the environment for working on it: .venv/airflow-3.3.2

.PHONY: build
build: $(ENV)/.test ## Build wheel and sdist into dist/
	@rm -rf dist
	@$(UV) build --quiet --python $(BIN)/python --build-constraint constraints/airflow-$(NEWEST).txt
	@ls -1 dist/*.whl dist/*.tar.gz

.PHONY: gallery
gallery: $(ENV)/.test ## Take the screenshots in docs/images again (needs Debian's chromium)
	@$(BIN)/python -m tools.gallery $(ARGS)

.PHONY: constraints
constraints: $(VENV)/boot/.done ## Compile constraints/*.txt again (ARGS=--upgrade for newer versions)
	@for v in $(VERSIONS) lowest scale; do \
	  echo "constraints/airflow-$$v.txt"; \
	  case $$v in lowest) how='--resolution lowest-direct' ;; scale) how='--group scale' ;; *) how= ;; esac; \
	  $(UV) pip compile --quiet --universal --python-version 3.11 $$how $(ARGS) \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    --all-extras --group build --group dev --group test --override constraints/overrides.txt \
	    pyproject.toml constraints/airflow-$$v.in --output-file constraints/airflow-$$v.txt >/dev/null; \
	done

.PHONY: clean
clean: ## Remove all that make has made
	rm -rf $(VENV) .demo dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

# --- environments --------------------------------------------------------------------------------
# .venv/boot has uv. .venv/airflow-<version> has .run (the package and the sandbox), then .test, then
# .dev on top of it. A stamp is older than what it depends on: uv looks again, which takes a second.

# Terminals see uv's progress bars; logs are spared its list of packages.
define install
  @install() { $(UV) pip install --python $(@D)/bin/python --constraint constraints/airflow-$*.txt \
      --build-constraint constraints/airflow-$*.txt --override constraints/overrides.txt $(WHAT); }; \
    if [ -t 2 ]; then install; else install 2>&1 | { grep -v '^ [-+~] ' || true; }; fi
  @touch $@
endef

%/.dev: WHAT = --group dev
$(VENV)/airflow-%/.dev: $(VENV)/airflow-%/.test
	$(install)

%/.test: WHAT = --editable '.[s3,sandbox,sql]' --group build --group test
$(VENV)/airflow-%/.test: $(VENV)/airflow-%/.run
	$(install)

%/.scale: WHAT = --editable '.[s3,sandbox,sql]' --group scale
$(VENV)/airflow-%/.scale: $(VENV)/airflow-%/.run
	$(install)

%/.run: WHAT = --editable '.[sandbox]'
$(VENV)/airflow-%/.run: $(VENV)/airflow-%/pyvenv.cfg pyproject.toml constraints/airflow-%.txt
	@echo 'Installing Airflow and the provider into $(@D)'
	$(install)

$(VENV)/airflow-%/pyvenv.cfg: $(VENV)/boot/.done
	@$(UV) venv --quiet --clear --python $(VENV)/boot/bin/python $(@D)
	@touch $@

$(VENV)/boot/.done: $(VENV)/.python constraints/bootstrap.txt
	@echo 'Making $(VENV)/boot'
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D) || { echo "This Python cannot make environments: '$(PYTHON) -m venv' failed" \
	  "(on Debian and Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@$(@D)/bin/python -m pip install --quiet --requirement constraints/bootstrap.txt
	@touch $@

# Another Python, or the checkout moved: everything is made again.
$(VENV)/.python: FORCE
	@[ -n '$(PYTHON)' ] || { echo "Python 3.11 or newer is needed and was not found;" \
	  "say where it is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@'$(PYTHON)' -c '$(NEW_ENOUGH)' 2>/dev/null || { echo "Python 3.11 or newer is needed;" \
	  "'$(PYTHON)' is not: make PYTHON=/path/to/python3" >&2; exit 1; }
	@mkdir -p $(@D)
	@'$(PYTHON)' -c 'import os, sys; print(sys.version, sys.base_prefix, os.getcwd())' > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

FORCE:
