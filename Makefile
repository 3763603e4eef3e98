# `make run` and `make test` set everything up by themselves; see scripts/bootstrap. ARGS and PYTEST_ARGS pass through.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run demo test bench check format docs lock clean
BIN := .venv/bin
TEST_MODELS := all-minilm-l6-v2 smollm2-135m-instruct

help: ## say what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

run: ## serve on this machine, with a database and models of its own
	@scripts/bootstrap run && exec $(BIN)/ringfence run $(ARGS)

demo: ## the main job, once, in this terminal
	@scripts/bootstrap run && exec $(BIN)/ringfence demo $(ARGS)

test: ## all tests, with coverage (a part of them: PYTEST_ARGS="--no-cov tests/search")
	@scripts/bootstrap dev
	@$(BIN)/ringfence model pull $(TEST_MODELS)
	@$(BIN)/python -m pytest -n auto --cov --cov-branch --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

bench: ## benchmarks beside other libraries, into docs/benchmarks.md (some: BENCH_ARGS="--quick chunk")
	@scripts/bootstrap run
	@bench/setup .venv/bin/python .tools/bench
	@.tools/bench/bin/python -m bench $(BENCH_ARGS)

check: ## lint, format, types, import rules, and the environment against the locks
	@scripts/bootstrap dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	"$$(scripts/bootstrap uv)" pip check --python $(BIN)/python

format: ## put the code into the house's form
	@scripts/bootstrap dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: ## write docs/settings.md and .env.example anew from the settings in the code
	@scripts/bootstrap run && $(BIN)/python scripts/settings_docs.py

lock: ## resolve the dependencies anew (all to their newest: ARGS=--upgrade)
	scripts/lock $(ARGS)

clean: ## remove what these targets made in this folder, but no data and no models
	rm -rf .venv .tools .coverage .coverage.* htmlcov dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis
