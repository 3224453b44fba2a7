# Each target does its own set-up: python3 (3.11 or later) with venv, and make, are all it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types clean

demo: $(VENV)/installed
	$(BIN)/higan demo --output demo --overwrite

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck .ci/run deploy/*.sh

types: $(VENV)/installed-test
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "higan needs Python 3.11 or later, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# The simulator is compiled where its libraries are there; without them the tests that run it say so and are skipped.
$(VENV)/installed-test: $(VENV)/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[simulate]' \
	  || echo 'higan: 21cmFAST could not be built (Debian: gcc libfftw3-dev libgsl-dev); its tests will be skipped.'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo
