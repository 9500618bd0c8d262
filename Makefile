PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt

VLLM := .venv-vllm

.PHONY: bench demo test test-compiled test-kernels test-llamacpp test-ray test-vllm test-vllm-v2 wheels check lint types imports docs gpu-check clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[all]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	touch $@

bench: $(VENV)/.installed  ## Engines, policies and transformers' own generate side by side
	$(BIN)/stopkit bench --json benchmarks/results/bench.json --plot benchmarks/results/bench.svg --force

demo: $(VENV)/.installed  ## Watch four policies run on the bundled pair
	$(BIN)/stopkit demo

test: $(VENV)/.installed-dev  ## Every test
	$(BIN)/python -m pytest -n auto --dist worksteal

test-compiled: $(VENV)/.installed-dev  ## What compiles models, which takes some minutes
	$(BIN)/python -m pytest -m compiles

test-kernels: $(VENV)/.installed-dev  ## The fused kernel, by Triton's interpreter where there is no GPU
	$(PIP) triton
	TRITON_INTERPRET=$(if $(wildcard /dev/nvidia0),0,1) $(BIN)/python -m pytest -m kernels tests/kernels

test-llamacpp: $(VENV)/.installed-dev  ## The engine over llama.cpp, which is built from source the first time
	$(PIP) -e '.[llamacpp]'
	$(BIN)/python -m pytest -m llamacpp tests/llamacpp

test-ray: $(VENV)/.installed-dev  ## What records with workers of a Ray cluster, one of this machine's own
	$(PIP) -e '.[ray]'
	$(BIN)/python -m pytest -m ray tests/cluster

$(VLLM)/.installed: pyproject.toml engines/vllm/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet -c constraints.txt -e . -e 'engines/vllm[cpu,test]'
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec torchvision
	touch $@

test-vllm: $(VLLM)/.installed  ## Policies inside vLLM on a CPU, which takes some minutes; in an environment of its own
	cd engines/vllm && ../../$(VLLM)/bin/python -m pytest

test-vllm-v2: $(VLLM)/.installed  ## The same for vLLM's model runner for GPUs, by Triton's interpreter
	cd engines/vllm && ../../$(VLLM)/bin/python -m pytest -m interpreted

check: lint types imports docs  ## Everything CI runs on top of the tests

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheels: $(VENV)/.installed  ## Into .wheels: what a machine with a GPU and torch, but no package registry, may lack
	$(BIN)/python -m pip download --quiet --only-binary=:all: --python-version 3.12 --implementation cp \
		--platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .wheels pydantic 'pluggy>=1.5' tomli-w

gpu-check: $(VENV)/.installed-dev  ## On a machine with a GPU: tests, speed, the kernel; under eight minutes; small without
	$(BIN)/python benchmarks/gpu_check.py

clean:
	rm -rf $(VENV) $(VLLM) dist site .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
