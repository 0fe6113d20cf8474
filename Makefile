# Two commands for a newcomer: `make demo` and `make test`. Each sets up what it needs in .venv by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = .venv/bin

.PHONY: demo test test-fast test-slow test-vllm test-slurm test-conda lint format clean
.PHONY: benchmark-prepare benchmark-corpus benchmark-rehearsal benchmark-captions
.DEFAULT_GOAL = demo

# Renewed when a pin changes.
.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	cp requirements.txt $@

# The whole chain on painted lesions and toy models, to results/demo/report/report.html.
demo: .venv/installed
	$(BIN)/snakemake --profile profiles/demo

# vLLM for CPUs, for the tests of the captioners: an environment of its own, renewed when a pin changes.
VLLM_FILES = $(addprefix tests/vllm/, install.sh repair.py requirements.txt overrides.txt)
.venv-vllm/installed: $(VLLM_FILES)
	PYTHON=$(PYTHON) tests/vllm/install.sh .venv-vllm
	cat $(VLLM_FILES) > $@

# A conda of its own, for the tests of the environments.
CONDA_FILES = $(addprefix tests/conda/, install.sh make_channel.py requirements.txt)
.venv-conda/installed: $(CONDA_FILES)
	PYTHON=$(PYTHON) tests/conda/install.sh .venv-conda
	cat $(CONDA_FILES) > $@

# All tests, on two cores. `make test-slow` are those that run a workflow from end to end, the others those with real
# servers: vLLM, SLURM (as root) and conda.
test: test-fast test-slow test-vllm test-slurm test-conda

test-fast: .venv/installed
	$(BIN)/pytest -n 2 -m "not slow and not vllm and not slurm and not conda"

test-slow: .venv/installed
	$(BIN)/pytest -m slow

test-vllm: .venv/installed .venv-vllm/installed
	$(BIN)/pytest -m vllm --durations=0

test-slurm: .venv/installed
	tests/slurm/install.sh
	$(BIN)/pytest -m slurm --durations=0

test-conda: .venv/installed .venv-conda/installed
	$(BIN)/pytest -m conda --durations=0

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

# Speed and memory, as ratios measured in one run; see docs/benchmarks.md. What they compare with is installed apart.
.venv-benchmarks/installed: benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-benchmarks
	.venv-benchmarks/bin/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	cp benchmarks/requirements.txt $@

benchmark-prepare: .venv-benchmarks/installed
	.venv-benchmarks/bin/python benchmarks/prepare.py

benchmark-corpus: .venv/installed
	$(BIN)/python benchmarks/corpus.py

benchmark-rehearsal: .venv/installed
	$(BIN)/python benchmarks/rehearsal.py results/rehearsal

benchmark-captions: .venv/installed .venv-vllm/installed
	$(BIN)/python benchmarks/captions.py

clean:
	rm -rf results/demo .snakemake
