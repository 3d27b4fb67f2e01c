# Needs make and Python 3.11 or newer with venv; everything else goes into $(VENV), once.
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The first Python on the PATH that is new enough and can create an environment; evaluated only when one is needed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	if "$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; \
	then echo "$$p"; break; fi; done)

.PHONY: help demo test check format bench lock image lower-bounds clean

help:
	@echo 'make demo     the gateway with two simulated carriers and a few messages; Ctrl-C stops it'
	@echo 'make test     the tests                             (ARGS="-k receipt -x" is passed to pytest)'
	@echo 'make check    ruff, formatting, mypy --strict and the linter of the Lua functions'
	@echo 'make format   format the code and apply the fixes of ruff'
	@echo 'make bench    the benchmark                         (ARGS="--messages 100000" is passed to it)'
	@echo 'make lock     update requirements.lock and requirements-dev.lock from pyproject.toml'
	@echo 'make image    build the container image smpp-gateway'
	@echo 'make clean    remove the environment and everything that was built'

demo: $(READY)
	@exec $(BIN)/smpp-gateway demo $(ARGS)

test: $(READY)
	@$(BIN)/pytest $(ARGS)

check: $(READY)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m tests.store.lua_lint

format: $(READY)
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

bench: $(READY)
	@exec $(BIN)/python -m bench $(ARGS)

# Import and run everything with the lowest versions that pyproject.toml allows, in a temporary environment.
lower-bounds: $(READY)
	@$(BIN)/python .ci/lower_bounds.py

lock: $(READY)
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
		--no-header --no-annotate pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

image:
	docker build -t smpp-gateway .

clean:
	@rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis data-demo

$(READY): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo 'no Python 3.11 to 3.14 with venv on the PATH; give one with: make PYTHON=/path/to/python' >&2; exit 1; }
	@test -x $(BIN)/python || { echo 'creating $(VENV) …'; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
