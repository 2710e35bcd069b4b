# make demo    set up, then real images -> LMDB -> C-RNN trained and tested -> runs/demo/report.html
# make test    set up, then every test        make lint    the layout and the rules that tools can check
# make build   set up only                    make bench   the scan against autograd
#
# PYTHON=python3.12 picks the interpreter. TORCH_INDEX=URL takes torch from another package index (README: CPU only).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := setup.py pyproject.toml constraints.txt $(wildcard csrc/*.cpp csrc/*/*)

.PHONY: build demo test lint format bench proto clean

build: $(VENV)/.built

$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt setuptools wheel ninja
	$(PIP) install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	@touch $@

$(VENV)/.built: $(VENV)/.torch $(SOURCES)
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[report]"
	@$(BIN)/crnn doctor --brief
	@touch $@

$(VENV)/.dev: $(VENV)/.built
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[dev]"
	@touch $@

demo: $(VENV)/.built
	$(BIN)/crnn demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*.cpp csrc/*/*.h csrc/*/*.cpp)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard csrc/*.cpp csrc/*/*.h csrc/*/*.cpp)

bench: $(VENV)/.built
	$(BIN)/crnn bench

proto: $(VENV)/.dev
	$(BIN)/python crnn/proto/compile.py

clean:
	rm -rf build dist *.egg-info crnn/*.so .pytest_cache .ruff_cache .hypothesis
