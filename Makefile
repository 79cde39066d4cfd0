# `make help` lists what there is. Every target sets up what it needs first; a complete set-up costs 0.1 s.

PYTHON ?= python3
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-bench serve check test test-unit chaos lint format bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## .venv and the embedded model
	@$(PYTHON) -IS scripts/setup.py

setup-dev:
	@$(PYTHON) -IS scripts/setup.py requirements-dev.lock

setup-bench:
	@$(PYTHON) -IS scripts/setup.py requirements-dev.lock requirements-bench.lock

serve: setup ## run the service on this machine (PORT=11337, REDIS_URL=...) until Ctrl-C
	@exec $(VENV)/python -m deployments.local

check: setup ## serve_config.yaml: name every key and value that is wrong
	@$(VENV)/python -m deployments.config_file serve_config.yaml

test: setup-dev ## all tests: unit, integration, e2e and a short chaos run
	$(VENV)/python -m pytest tests/unit
	$(VENV)/python -m pytest tests/integration
	$(VENV)/python -m pytest tests/e2e
	$(VENV)/python -m pytest tests/chaos

test-unit: setup-dev ## the tests that need neither Ray nor a store
	$(VENV)/python -m pytest tests/unit

chaos: setup-dev ## the whole chaos suite
	CHAOS=full $(VENV)/python -m pytest tests/chaos

lint: setup-dev ## ruff and mypy
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

format: setup-dev ## let ruff format and fix
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

bench: setup-bench ## measure side by side; writes benchmarks/results (about 35 minutes, quiet machine)
	-$(VENV)/python -m benchmarks --minutes 22
	-$(VENV)/python -m benchmarks.accept
	-$(VENV)/python -m benchmarks.profile_ttft
	-$(VENV)/python -m benchmarks.profile_cpu
	-$(VENV)/python -m benchmarks.queue_core --minutes 3
	-$(VENV)/python -m benchmarks.listing

clean: ## remove caches; .venv and data stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
