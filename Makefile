# Everything runs in .venv, which `make setup` makes from $(PYTHON). ARGS passes arguments on:
# make test ARGS="-k gru"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROOF := build/proof
ARGS ?=

# On Linux the torch of PyPI brings gigabytes of CUDA libraries along, so without a GPU take the CPU build.
# Where that index is out of reach, pip says so and goes on with the others.
TORCH_INDEX ?= $(shell command -v nvidia-smi >/dev/null || [ "$$(uname)" != Linux ] \
	|| echo https://download.pytorch.org/whl/cpu)
TORCH := $(shell grep '^torch==' requirements.txt)
INSTALL_TORCH = -m pip install --no-deps --retries 1 --timeout 30 \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)

CPP := $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# Few of the many modules are ever imported; Python compiles those at their first import.
export PIP_NO_COMPILE := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test test-all docs snippets fuzz sanitize crash integrations interop lint format bench gpu tune dist clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.extension ## make .venv with everything in it and build the extension
	@echo "Set-up: $(VENV) is up to date."

demo: setup ## train and show an English to Marathi date translator, about three minutes
	$(BIN)/python -m s2s.demo $(ARGS)

# Two threads in each test process, so that parallel code runs as such; passive, since spinning threads of several
# processes would starve each other.
test: setup ## run the test suite, of the largest tests a part of their rows
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive \
		$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal --durations=10 $(ARGS)

test-all: ## run every row of every test, as continuous integration does
	@$(MAKE) --no-print-directory test ARGS="--exhaustive $(ARGS)"

docs: setup $(VENV)/.docs ## build the site of the documentation into build/site, every link checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)
	@echo "The site: build/site; to read it: $(BIN)/python -m http.server -d build/site"

snippets: setup ## run the code of README.md and docs/; ARGS="README.md" for one page, ARGS=--list to see
	PYTHONPATH=tests $(BIN)/python -m snippets $(ARGS)

fuzz: setup ## random calls and wrong arguments of every op; ARGS="--cases 2000 --seed 7"
	PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

sanitize: setup ## the CPU's kernels under AddressSanitizer, UBSan and ThreadSanitizer; ARGS="threads"
	$(BIN)/python tests/sanitize.py $(ARGS)

integrations: setup ## try sk.convert on ten public packages and write docs/integrations.md; ARGS="joeynmt" for one
	$(BIN)/python -m tests.integrations $(ARGS)

interop: setup ## weights of other frameworks against the frameworks, and docs/interop.md; ARGS="keras" for one
	$(BIN)/python -m tests.interop $(ARGS)

crash: setup ## kill trainings, fill the disk and cut the power at every system call; ARGS=--quick for a few
	@$(BIN)/python -m tests.crash $(ARGS)

lint: $(VENV)/.requirements ## check style, and the types that a user sees
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.requirements ## rewrite everything in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

bench: setup ## measure the ops and write a report
	$(BIN)/python -m benchmarks $(ARGS)

# With the Python that has a torch with CUDA: a bare machine's own, or PYTHON=.venv/bin/python after make setup.
gpu: ## on a machine with a GPU: build, smoke, measure, test and sanitize in nine minutes; ARGS="--again"
	@$(PYTHON) -m benchmarks.gpu $(ARGS)

tune: ## on a machine with a GPU: measure the tiles of Triton's kernels; ARGS="--max-seconds 600"
	@$(PYTHON) -m benchmarks.tune $(ARGS)

dist: $(VENV)/.requirements ## build sdist and wheel, and prove the wheel in an empty environment
	rm -rf dist $(PROOF)
	$(BIN)/python -m build --no-isolation
	@echo "Proving the wheel in an empty environment, $(PROOF)"
	$(PYTHON) -m venv $(PROOF)
	$(PROOF)/bin/python -m pip install -q --upgrade pip
	$(PROOF)/bin/python $(INSTALL_TORCH)
	$(PROOF)/bin/python -m pip install -q dist/*.whl
	cd $(PROOF) && bin/python "$(CURDIR)/.ci/prove_wheel.py"
	$(PROOF)/bin/python -m pip install -q "$$(ls dist/*.whl)[s2s]"
	cd $(PROOF) && bin/s2s --help
	@ls -l dist

clean: ## remove what was built; rm -rf .venv removes the environment as well
	rm -rf build dist *.egg-info s2s_kernels/_C.*.so s2s_kernels/_build_info.json $(VENV)/.extension

# The stamps of the set-up: each is made again when what it depends on is newer.

$(VENV)/.python:
	@echo "Set-up 1/3: making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --upgrade pip
	@touch $@

$(VENV)/.requirements: requirements.txt $(VENV)/.python
	@echo "Set-up 2/3: installing $(TORCH) and the rest of requirements.txt"
	@$(BIN)/python $(INSTALL_TORCH)
	@$(BIN)/python -m pip install -q -r requirements.txt
	@touch $@

$(VENV)/.docs: docs/site/requirements.txt $(VENV)/.requirements
	@$(BIN)/python -m pip install -q -c requirements.txt -r docs/site/requirements.txt
	@touch $@

$(VENV)/.extension: setup.py pyproject.toml $(shell find csrc ! -name '.*') $(VENV)/.requirements
	@echo "Set-up 3/3: compiling the extension and installing s2s_kernels in place"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	@$(BIN)/python -m s2s_kernels.info
	@touch $@
