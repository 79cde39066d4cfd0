# `make help` lists what there is. Every target sets up what it needs first; a complete set-up costs 0.1 s.

PYTHON ?= python3
# Whose prompts `make batch` makes: the one that `make serve` says how to log in as.
FOR ?= 1backend
VENV := .venv/bin
# Tests that share nothing. Those that start the whole service run one after another.
SIDE_BY_SIDE := -n auto --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-bench serve batch check test test-unit chaos lint format bench clean

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

batch: setup ## run a file of prompts on the running service (IN=in.jsonl OUT=out.jsonl, FOR=1backend: whose they are)
	@eval "$$($(VENV)/python -m deployments.local.ray_environment)" && exec $(VENV)/python -m clients.batch --user $(FOR) $(IN) $(OUT)

check: setup ## serve_config.yaml: name every key and value that is wrong
	@$(VENV)/python -m deployments.config_file serve_config.yaml

test: setup-dev ## all tests: unit, integration, e2e and a short chaos run
	$(VENV)/python -m pytest $(SIDE_BY_SIDE) -p no:schemathesis tests/unit
	$(VENV)/python -m pytest $(SIDE_BY_SIDE) tests/integration
	$(VENV)/python -m pytest tests/e2e
	$(VENV)/python -m pytest tests/chaos

test-unit: setup-dev ## the tests that need neither Ray nor a store
	$(VENV)/python -m pytest $(SIDE_BY_SIDE) -p no:schemathesis tests/unit

chaos: setup-dev ## the whole chaos suite
	CHAOS=full $(VENV)/python -m pytest tests/chaos

lint: setup-dev ## ruff and mypy
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

format: setup-dev ## let ruff format and fix
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

bench: setup-bench ## measure side by side; writes benchmarks/results (about 50 minutes, quiet machine)
	-$(VENV)/python -m benchmarks --minutes 22
	-$(VENV)/python -m benchmarks.accept
	-$(VENV)/python -m benchmarks.profile_ttft
	-$(VENV)/python -m benchmarks.profile_cpu
	-$(VENV)/python -m benchmarks.queue_core --minutes 3
	-$(VENV)/python -m benchmarks.listing
	-$(VENV)/python -m benchmarks.batch
	-$(VENV)/python -m benchmarks.autoscaling_simulation
	-$(VENV)/python -m tests.chaos.scaling scripted
	-$(VENV)/python -m tests.chaos.scaling vllm

clean: ## remove caches; .venv and data stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
