# make demo   everything, from generated images to reports/index.html, on a CPU
# make test   the tests
# Both make their own environment in .venv first; PYTHON chooses the interpreter, PINS="" takes the newest versions.
PYTHON ?= python3
PINS ?= -c constraints.txt
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS := 1
# What is imported is compiled once, not by every stage anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint clean environment

demo: environment
	dvc repro
	@echo
	@echo "The report: $(abspath reports/index.html)"

# A process for each core, one thread each; a file's tests stay together and share what they make.
test: export OMP_NUM_THREADS := 1
test: environment
	pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: environment
	ruff check .
	ruff format --check .
	mypy

environment: $(VENV)/.installed

# To compile all that is installed takes as long as to unpack it; Python compiles what is imported.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet --no-compile $(PINS) -e .[dev]
	@touch $@

clean:
	rm -rf data/images data/weights data/manifests data/untrained data/activations data/usae data/controls data/codes data/maximised data/methods/*/
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
