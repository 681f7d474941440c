# Two commands from a fresh clone: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: demo quick test test-all parity lint clean

demo: $(VENV)/installed
	$(PY) -m scripts.demo --out=out/demo

# A file of tests at a time for each core; more processes would want more memory than many have.
PYTEST := $(PY) -m pytest -n auto --maxprocesses=4 --dist loadfile

# For whoever is writing code: what compiles little. It names tests that deserve the mark `compiles`.
quick: $(VENV)/installed-dev
	$(PYTEST) -m "quick or not (slow or parity or compiles or command)" --durations=5 --durations-min=5

test: $(VENV)/installed-dev
	$(PYTEST)

test-all: $(VENV)/installed-dev
	$(PYTEST) -m ""

# Our video networks against their makers' own, in torch: a gigabyte to install.
parity: $(VENV)/installed-dev
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[parity]"
	$(PYTEST) -m parity

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) out build *.egg-info .pytest_cache .ruff_cache

$(PY):
	$(PYTHON) -m venv $(VENV)

# The stamps rise with setup.cfg, so a changed dependency is installed before the next run.
$(VENV)/installed: setup.cfg constraints.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: setup.cfg constraints.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(VENV)/installed $@
