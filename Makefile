# Everything here works on a fresh machine with Python 3.11 or newer and pip; no PostgreSQL, no Docker.
PYTHON ?= python3
PORT_BASE ?= 8000
DATA ?= .data
BIN := .venv/bin

# pip installs into an environment that has no pip of its own: Debian's python3 can make that one without python3-venv.
PIP := $(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python install --quiet --require-hashes

.DEFAULT_GOAL := help
.PHONY: help run demo test check format bench proof audit sbom lock clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: .venv/run ## Start everything on this machine; Ctrl-C stops it (PORT_BASE=8000, DATA=.data)
	@exec $(BIN)/payments run --port-base $(PORT_BASE) --data $(DATA)

demo: .venv/run ## Buy something from the running set and print what happens
	@$(BIN)/payments demo-purchase --port-base $(PORT_BASE) --data $(DATA)

test: .venv/dev ## Run all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: .venv/dev ## Lint, formatting, types, security rules, architecture
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BANDIT)
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py
BANDIT := $(BIN)/bandit --quiet --recursive --configfile pyproject.toml src deploy migrations bench proof supply

format: .venv/dev ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/dev ## Measure against the database's own limit; writes docs/performance.md (40 minutes)
	$(BIN)/python -m bench

proof: .venv/dev ## Break everything on purpose, then compare the books (FULL=1: for hours; SEED=1)
	$(BIN)/python -m proof --seed $(SEED) $(if $(FULL),--full)
	$(if $(FULL),$(MANY_TIMES))
SEED ?= 1
# The tests that have a longer form: races and random sequences, floods, slow sockets.
MANY_TIMES := $(BIN)/python -m pytest -n 2 --dist loadfile --proof tests/integration/test_races.py tests/integration/test_storms.py \
	tests/integration/test_refund_races.py tests/integration/test_refund_storms.py \
	tests/gateways/test_toss.py tests/gateways/test_toss_refunds.py \
	tests/integration/test_refund_sequences.py tests/integration/test_webhooks.py \
	tests/acceptance/test_worker_proof.py tests/deploy/test_running.py \
	tests/fuzz tests/integration/test_forged_webhooks.py \
	tests/edge/test_slow_sockets.py tests/edge/test_stopping.py \
	tests/canary tests/unit/test_redaction.py

audit: .venv/dev ## Look for known weaknesses: our code, what is locked, what PyPI knows (docs/dependencies.md)
	$(BANDIT)
	$(BIN)/python -m supply.audit

sbom: .venv/dev ## List the run-time packages as CycloneDX in dist/sbom.json
	@mkdir -p dist
	$(SBOM) --output-file dist/sbom.json
# The lock file does not say what needs what, and the tool would warn of that.
SBOM := $(BIN)/python -W ignore -m cyclonedx_py requirements requirements.txt --pyproject pyproject.toml --output-reproducible

lock: .venv/dev ## Write the lock files anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml $(LOCK) -o requirements.txt
	$(BIN)/uv pip compile pyproject.toml $(LOCK) --extra local --group build -c requirements.txt -o requirements-local.txt
	$(BIN)/uv pip compile pyproject.toml $(LOCK) --extra local --group build --group dev -c requirements-local.txt \
		-o requirements-dev.txt
# A week old: a package that was taken over is mostly found out within days.
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --exclude-newer '7 days'

clean: ## Remove the environment, the caches and the data of the local run
	rm -rf .venv .data .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the local run needs, and this package itself, in place.
.venv/run: requirements-local.txt pyproject.toml
	@echo "Installing into .venv; the first time takes a minute ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@$(PIP) -r requirements-local.txt
	@$(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python install --quiet --no-build-isolation --no-deps -e .
	@touch $@

# And what tests and checks need.
.venv/dev: .venv/run requirements-dev.txt
	@echo "Installing the tools for tests and checks ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@
