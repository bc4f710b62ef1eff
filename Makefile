# The commands of the house. `make up` and `make test` are enough after `git clone`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock'

.PHONY: help install up test test-faults check lock contract bench bench-streams bench-feeds clean

help: ## show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(STAMP) ## make .venv with the locked packages

$(STAMP): requirements/all.txt requirements/uv.txt pyproject.toml
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/install.sh
	@touch $(STAMP)

up: install ## run everything in the foreground; Ctrl-C stops it cleanly
	@exec $(BIN)/pricewire up

test: install ## run all tests, against a real Kafka and a real PostgreSQL
	@$(BIN)/python -m pytest

test-faults: install ## break brokers, networks and processes on purpose; takes longer than `make test`
	@$(BIN)/python -m pytest -m faults -n 3

check: install ## lint, types, import rules, stale lock files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/check_lock.py

bench: install ## measure the main job, then averages beside their peers
	@$(BIN)/python -m bench.main_job
	@$(MAKE) -s bench-streams

bench-streams: install ## measure averages beside their peers, and how late they are; ARGS=--help
	@$(BIN)/python -m bench.streams $(ARGS)
	@$(BIN)/python -m bench.streams_latency

bench-feeds: install ## measure a live feed from the socket to the topic; ARGS=--help
	@$(BIN)/python -m bench.feeds $(ARGS)

contract: install ## write the schemas and the AsyncAPI document of docs/contract anew
	@$(BIN)/python scripts/contract.py

lock: install ## compile the lock files anew
	@$(COMPILE) pyproject.toml --all-extras --group dev -o requirements/all.txt
	@$(COMPILE) pyproject.toml --extra calendars -c requirements/all.txt -o requirements/core.txt
	@grep -E '^uv==' requirements/all.txt | sed 's/ .*//' > requirements/uv.in
	@$(COMPILE) requirements/uv.in -o requirements/uv.txt
	@for peer in quixstreams aiokafka; do $(COMPILE) bench/peers/$$peer.in -o bench/peers/$$peer.txt; done
	@grep -E '^hatchling==' requirements/all.txt | sed 's/ .*//' > requirements/build.in
	@$(COMPILE) requirements/build.in -c requirements/all.txt -o requirements/build.txt

clean: ## remove what was installed and built here
	@rm -rf $(VENV) .kafka .mypy_cache .ruff_cache .pytest_cache
