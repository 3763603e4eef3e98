# `make run` and `make test` set everything up by themselves; see scripts/bootstrap. ARGS and PYTEST_ARGS pass through.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run demo test contract soak bench eval screenshots lint check format docs lock dist clean
BIN := .venv/bin
CONTRACT_EXAMPLES := 500
# More than there are processors: half of the time, tests wait for a process, a lease or a silent server.
WORKERS := $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN) + 1)
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
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-branch --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

contract: ## long tries of the API against its description (how many an operation: CONTRACT_EXAMPLES=500)
	@scripts/bootstrap dev
	@RINGFENCE_TEST_CONTRACT_EXAMPLES=$(CONTRACT_EXAMPLES) $(BIN)/python -m pytest -n auto --timeout 7200 tests/http/test_contract.py

soak: ## the fault tests at length: 50 killed workers, 10 outages of the database (RINGFENCE_TEST_SEED repeats a run)
	@scripts/bootstrap dev
	@RINGFENCE_TEST_KILLS=$${RINGFENCE_TEST_KILLS:-50} RINGFENCE_TEST_OUTAGES=$${RINGFENCE_TEST_OUTAGES:-10} \
		$(BIN)/python -m pytest --no-cov -v -s --timeout 3600 tests/life_cycle/test_faults.py $(PYTEST_ARGS)

bench: ## benchmarks beside other libraries, into docs/benchmarks.md (some: BENCH_ARGS="--quick chunk")
	@scripts/bootstrap run
	@bench/setup .venv/bin/python .tools/bench
	@.tools/bench/bin/python -m bench $(BENCH_ARGS)

eval: ## quality on public collections (RINGFENCE_EVALDATA), into docs/quality.md and answers.md; fails on a lost goal (some: ARGS="cisi")
	@scripts/bootstrap run
	@$(BIN)/ringfence model pull all-minilm-l6-v2 $(if $(ARGS),,qwen2.5-coder-1.5b-instruct-q4_k_m)
	@$(BIN)/python -m bench.quality $(ARGS)
	@$(if $(ARGS),,$(BIN)/python -m bench.answers_e2e)

screenshots: ## pictures of the web app's views, into docs/screenshots/ (needs Chromium)
	@scripts/bootstrap dev
	@$(BIN)/python scripts/screenshots.py $(ARGS)

lint: ## the code's lint and form; workflows, image and compose file
	@scripts/bootstrap dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/actionlint
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/hadolint Dockerfile

check: lint ## that, types, import rules, migrations, and the environment against the locks
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/lint_migrations
	"$$(scripts/bootstrap uv)" pip check --python $(BIN)/python

format: ## put the code into the house's form
	@scripts/bootstrap dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: ## write docs/settings.md and .env.example anew from the settings in the code
	@scripts/bootstrap run && $(BIN)/python scripts/settings_docs.py

lock: ## resolve the dependencies anew (all to their newest: ARGS=--upgrade)
	scripts/lock $(ARGS)

dist: ## wheel, sdist and SBOM, into dist/ (ARGS=VERSION checks that it is that one)
	scripts/dist $(ARGS)

clean: ## remove what these targets made in this folder, but no data and no models
	rm -rf .venv .tools .coverage .coverage.* htmlcov dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis
