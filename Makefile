# Everything a developer does, from a machine that has Python (with venv) and nothing else.
# Repeated runs are fast: a stamp in the virtual environment says what is already installed.

PYTHON ?= python3
VENV   ?= .venv
# Options for `manage.py runprod`, as in: make serve ARGS="--bind 127.0.0.1:9000"
ARGS   ?=
# What `make bench` compares, and options of bench/compare.py, as in: make bench SCENARIOS="short --rounds 5"
SCENARIOS ?= all
# Processes that run tests side by side.
JOBS   ?= auto
# Least coverage of the branches of protocol/ and wsgi/, in per cent.
BRANCHES ?= 98

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help serve test lint quick integration docs bench fuzz dist clean

help:
	@echo "make serve        run the example project: http://127.0.0.1:8000/"
	@echo "make test         lint, types, layers, every test, coverage"
	@echo "make lint         ruff, mypy, import-linter"
	@echo "make quick        the tests that start no server, and their coverage"
	@echo "make integration  the tests that start real servers"
	@echo "make docs         the documentation, in docs/_build/html"
	@echo "make bench        the figures, beside those of other servers: 13 minutes on a quiet machine"
	@echo "make fuzz         the property tests, for longer"
	@echo "make clean        remove what the others made"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[static]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.installed

# Some of the other servers are compiled; without a compiler or their headers they are left out.
$(VENV)/.installed-bench: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[dev,bench]'
	for peer in bjoern gunicorn_h1c uwsgi; do $(PIP) install $$peer || echo "$$peer is left out"; done
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed

serve: $(VENV)/.installed
	$(BIN)/python manage.py open_library
	exec $(BIN)/python manage.py runprod $(ARGS)

test: lint quick integration

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python manage.py makemigrations --check --dry-run

# Coverage is of the quick rings only: what needs a running server to be reached is tested too far out.
quick: $(VENV)/.installed-dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(JOBS) --ignore tests/integration --ignore tests/docs
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/python scripts/branch_coverage.py --at-least $(BRANCHES) protocol wsgi

integration: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/integration tests/docs --numprocesses $(JOBS)

docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.installed-bench
	$(BIN)/python bench/compare.py --write docs/benchmarks $(SCENARIOS)
	$(BIN)/python bench/memory.py
	$(BIN)/python bench/replace.py
	$(BIN)/python bench/cost.py

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pytest tests/protocol --numprocesses $(JOBS) --hypothesis-profile fuzz --timeout 3600

dist: $(VENV)/.installed-dev
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis \
		.coverage .coverage.* build dist docs/_build db.sqlite3 db.sqlite3-shm db.sqlite3-wal
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
