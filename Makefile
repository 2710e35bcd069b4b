# make demo    set up, then real images -> LMDB -> C-RNN trained and tested -> runs/demo/report.html
# make test    set up, then every test        make lint    the layout and the rules that tools can check
# make build   set up only                    make bench   the ops against their peers
# make gpu     on a GPU machine: op tests, sanitizer, benchmarks, training steps, in 8 minutes
# make oracle  the real Caffe (needs Python 3.9; ORACLE_PYTHON=...)    make parity  random nets through both
# make pycaffe-tests CAFFE=CHECKOUT           BVLC's own tests of pycaffe, on crnn.pycaffe
# make opencv-oracle                         our nets and weights through OpenCV 4's Caffe importer
# make docs    build/docs/index.html          make package dist/: source and wheels, each installed and used
# make cuda    the CUDA kernels (nvcc, no GPU) and their registers   make sanitize  kernels under ASan and UBSan
# make faults  kills, failing disks, damaged and hostile files, in an hour    make soak  10,000 iterations, watched
# make abi TORCH=2.10.0                       the built wheel under another torch
# make emulate BOCHS=FOLDER                   the CPU kernels by AVX512's and AMX's own instructions, in Bochs
#
# PYTHON=python3.12 picks the interpreter. TORCH_INDEX=URL takes torch from another package index (README: CPU only).

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := setup.py pyproject.toml constraints.txt $(wildcard csrc/*.cpp csrc/*/*)
LAID_OUT := $(wildcard $(addprefix csrc/,*.cpp */*.h */*.cpp */*.cu */*.cuh) $(addprefix tests/*/emulator/,*.h *.cpp) tests/faults/calls.c)

.PHONY: build demo test lint format bench gpu docs package cuda sanitize emulate fuzz faults soak abi oracle parity opencv-oracle pycaffe-tests proto clean

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
	CRNN_BUILD=none $(PIP) install -q -c constraints.txt --no-build-isolation -e ".[dev]"  # compiled by .built
	@touch $@

demo: $(VENV)/.built
	$(BIN)/crnn demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(LAID_OUT)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(LAID_OUT)

bench: $(VENV)/.built
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

# Takes the torch with CUDA that PYTHON has: no environment is made, nothing is downloaded.
gpu:
	PYTHON=$(PYTHON) benchmarks/gpu.sh $(GPU_ARGS)

# The only wheel of the real Caffe is for Python 3.6 to 3.9 and numpy 1.
ORACLE_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.9*/bin/python) python3.9)

oracle: build/oracle/.built

build/oracle/.built:
	$(ORACLE_PYTHON) -m venv build/oracle
	build/oracle/bin/python -m pip install -q --no-deps kendryte-caffe==1.0.0.20210829
	build/oracle/bin/python -m pip install -q numpy==1.23.5 protobuf==3.20.3 scikit-image==0.24.0 scipy==1.13.1 six h5py
	GLOG_minloglevel=2 build/oracle/bin/python -c "import caffe; print('Caffe', caffe.__version__)"
	@touch $@

parity: $(VENV)/.dev build/oracle/.built
	$(BIN)/python -m tests.parity --write tests/parity/README.md
	$(BIN)/python -m tests.parity.snapshots --write tests/parity/SNAPSHOTS.md

# They want six, and a Python up to 3.11: unittest has since dropped names that they use. draw's wants graphviz.
pycaffe-tests: $(VENV)/.dev
	$(PIP) install -q six
	mkdir -p build/pycaffe
	cd build/pycaffe && GLOG_minloglevel=2 $(abspath $(BIN))/python -m crnn.pycaffe -m pytest -q -W ignore \
	  -p no:cacheprovider $(abspath $(CAFFE))/python/caffe/test

opencv-oracle: $(VENV)/.dev build/opencv/.built
	$(BIN)/python -m tests.parity.opencv --write tests/parity/OPENCV.md

build/opencv/.built:
	$(PYTHON) -m venv build/opencv
	build/opencv/bin/python -m pip install -q "opencv-python-headless>=4.14,<5"
	@touch $@

docs: $(VENV)/.dev
	$(BIN)/python docs/build.py build/docs

package: $(VENV)/.dev
	rm -rf dist
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python .ci/package.py dist

cuda: $(VENV)/.dev
	$(PIP) install -q -c constraints.txt nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm
	PATH="$(abspath $(BIN)):$$PATH" CRNN_BUILD=cuda $(BIN)/python setup.py -q build_ext --inplace
	$(BIN)/python tests/cuda/ptxas_report.py

sanitize: $(VENV)/.dev
	$(BIN)/python tests/sanitized.py $(PYTEST_ARGS)

fuzz: $(VENV)/.dev
	$(PIP) install -q -c constraints.txt atheris
	$(BIN)/python tests/fuzz/fuzz.py --write

faults: $(VENV)/.dev
	$(BIN)/python -m tests.faults --fresh --write tests/faults/README.md

soak: $(VENV)/.dev
	$(BIN)/python -m tests.faults.soak --write tests/faults/README.md

emulate: $(VENV)/.dev
	$(BIN)/python tests/cpu/bochs/emulate.py --bochs $(BOCHS) --write tests/cpu/bochs/README.md

TORCH ?= 2.10.0
abi: package
	bash .ci/abi.sh dist/crnn-*-abi3-*.whl $(TORCH) $(PYTHON) $(BIN)/python $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))

proto: $(VENV)/.dev
	$(BIN)/python crnn/proto/compile.py

clean:
	rm -rf build dist *.egg-info crnn/*.so .pytest_cache .ruff_cache .hypothesis
