# Two commands matter: `make demo` and `make test`. Each installs what it needs into .venv first, from a lock with hashes.

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
ARGS ?=
MINUTES ?= 10
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup
CODE := $(wildcard lukhas_redis tests benchmarks)
# pyright's wheel asks PyPI for a newer one otherwise.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check lint layout mypy pyright format bench soak nightly test-pythons lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | \
	while IFS='|' read -r name text; do printf '  %-18s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.demo ## an embedded server, four worker processes, a real agent run; under 30 seconds
	@$(BIN)/lukhas demo $(ARGS)

test: $(VENV)/.dev ## every test at smoke size (ARGS='tests/unit -k word' for some)
	$(PYTEST) $(ARGS)

check: lint layout mypy pyright ## ruff, ruff format --check, mypy --strict, pyright

# One target each, so that `make -k check` shows what all of them have to say.
lint: $(VENV)/.dev
	$(BIN)/ruff check .

layout: $(VENV)/.dev
	$(BIN)/ruff format --check .

mypy: $(VENV)/.dev
	$(BIN)/mypy --strict $(CODE)

pyright: $(VENV)/.dev
	$(BIN)/pyright $(CODE)

format: $(VENV)/.dev ## let ruff format and mend what it safely can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## the benchmarks, against raw redis-py in the same run
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.dev ## ten minutes of load and kills, then verdicts in soak-report/ (MINUTES=1, ARGS='--server all')
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

nightly: $(VENV)/.dev ## every test at full size (an hour or more), then the smoke tests on every Python
	LUKHAS_NIGHTLY=1 $(PYTEST) --timeout=3600 $(ARGS)
	$(MAKE) test-pythons

test-pythons: ## the smoke tests on every Python from 3.11 to 3.14 on this machine
	.ci/test-pythons requirements-dev.lock -n $(JOBS) --dist loadgroup $(ARGS)

# The first lock is what users and `make demo` need, the second adds the tools; both hold for every supported Python and system.
UPGRADE ?=
COMPILE = $(BIN)/python -m uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras \
	--generate-hashes --no-header --no-emit-index-url --quiet $(UPGRADE)

lock: $(VENV)/.dev ## resolve both locks again after a change in pyproject.toml (UPGRADE=--upgrade for newer versions)
	$(BIN)/python -m pip install --quiet 'uv>=0.13,<1'
	$(COMPILE) --group build --output-file requirements.lock
	$(COMPILE) --group dev --constraint requirements.lock --output-file requirements-dev.lock
	@! grep -nE '://|--(extra-)?index-url' requirements.lock requirements-dev.lock

clean: ## remove what was built, cached or installed here
	rm -rf $(VENV) .venvs build dist soak-report .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Its interpreter gone or replaced (make sees a dangling link as missing): everything is installed again.
$(BIN)/python:
	@rm -f $(VENV)/.demo $(VENV)/.dev

$(VENV)/.demo: $(BIN)/python requirements.lock pyproject.toml
	@.ci/install $(VENV) requirements.lock
	@touch $@

# The larger lock holds the smaller one at the same versions, so it serves the demo too.
$(VENV)/.dev: $(BIN)/python requirements-dev.lock pyproject.toml
	@.ci/install $(VENV) requirements-dev.lock
	@touch $@ $(VENV)/.demo
