# make demo   set up and run the main job on the built-in digits
# make test   set up and pass the tests
# make check  format, lint, types, fast tests: what to run before a commit
PYTHON ?= python3
BIN := .venv/bin
# two processes of one thread each are faster than one of two: most tests are Python
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint check format bench clean

demo: .venv/installed
	$(BIN)/swiftlet fit --max-ms 0.5 --max-kb 100 --minutes 2 --out runs/demo

test: .venv/installed-dev
	$(TEST)

lint: .venv/installed-dev
	$(BIN)/ruff format --check swiftlet tests benchmarks docs/generate
	$(BIN)/ruff check swiftlet tests benchmarks docs/generate
	$(BIN)/mypy

check: lint
	$(TEST) -m "not slow"

format: .venv/installed-dev
	$(BIN)/ruff format swiftlet tests benchmarks docs/generate
	$(BIN)/ruff check --fix swiftlet tests benchmarks docs/generate

bench: .venv/installed-dev
	$(PIP) --editable '.[bench]'
	$(BIN)/python -m benchmarks

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/installed

clean:
	rm -rf .venv runs
