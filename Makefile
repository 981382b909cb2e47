PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Two numeric threads that spin on shared cores are slower than one that sleeps.
export OMP_WAIT_POLICY = PASSIVE

.PHONY: demo test lint types layers pages check-all clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/lymphoscope synthesize demo/cohort --patients 60 --test 12 --cells 20 --seed 0 --overwrite
	$(BIN)/lymphoscope run demo/cohort -o demo/run --overwrite \
	  --labels-note "Patients, cells and labels are simulated."

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/generate.py --check

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

pages: $(STAMP)
	$(BIN)/python docs/generate.py

check-all: lint types layers test

clean:
	rm -rf $(VENV) demo
