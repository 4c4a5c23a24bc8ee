# `make train` and `make test` do all the set-up by themselves; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
# Compiled modules are kept even where a setting of the environment forbids it: the tests start many interpreters.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Folders whose tests together take less than a minute.
QUICK := tests/metrics tests/optim tests/nn tests/config tests/reporting tests/callbacks tests/inference tests/cli/test_bad_config.py tests/test_hygiene.py tests/test_documentation.py tests/test_imports.py tests/test_private_interfaces.py
# Files with tests marked slow; each test process would read all other test files only to leave their tests out.
SLOW = $(shell grep -rlF mark.slow tests --include='test_*.py')
# Test processes with one thread each; on a machine with more cores: make test WORKERS=8.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install torchrec train test check nightly kill newest oldest lint format type docs browser loc pytest bench bench-quick wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make train ARGS='model=ple seed=1' passes settings on; PYTHON=python3.12 chooses the interpreter."

install: $(STAMP) ## make .venv and install stemlab with its development tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "stemlab needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing stemlab and its dependencies into $(VENV) (a few minutes the first time)"
	@$(BIN)/python scripts/install.py -c constraints.txt -e '.[dev]'
	@touch $@

# With --no-deps: torchrec 1.8 requires an old torchmetrics and the FBGEMM for CUDA; its own small dependencies follow it.
torchrec: $(STAMP) ## add TorchRec and FBGEMM for CPUs (optim.tables=torchrec_rowwise_adagrad)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0 \
		tensordict==0.15.3 cloudpickle==3.1.3 pyvers==0.2.3 pyre-extensions==0.0.32 typing-inspect==0.9.0

train: $(STAMP) ## train STEM on TikTok (four epochs; on the sample when there is no raw file) and show test metrics
	$(BIN)/python -m stemlab.train model=stem dataset=tiktok trainer.max_epochs=4 $(ARGS)

test: lint ## lint, types and all tests except the long ones of `make nightly`
	@$(MAKE) --no-print-directory -j2 type pytest # types are checked while tests wait for their processes

check: lint type ## lint, import layers, types and the quick tests (under two minutes)
	$(PYTEST) -m "not slow and not process and not ddp" $(QUICK) $(ARGS)

nightly: $(STAMP) ## long statistical claims and benchmarks (tests marked slow)
	$(PYTEST) -m slow $(or $(ARGS),$(SLOW))

kill: $(STAMP) ## kill 20 trainings per model family at random moments and resume them exactly (about 20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.kill_harness --points 20 $(ARGS)

newest: ## a short suite on Python 3.13 with the newest allowed versions, in .venv-newest
	scripts/test_environment.sh newest

oldest: ## the same on Python 3.11 with the oldest allowed versions, in .venv-oldest
	scripts/test_environment.sh oldest

lint: $(STAMP) ## ruff and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/codespell

format: $(STAMP) ## apply the automatic fixes of ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(STAMP) ## mypy, strict, on the package
	$(BIN)/mypy

docs: $(STAMP) ## build the documentation site into site/; a link that leads nowhere is an error
	$(BIN)/python scripts/install.py -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

browser: $(STAMP) ## test the dashboard page in headless Chromium, which must be installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'playwright>=1.50'
	$(BIN)/pytest -q tests/cli/test_dashboard_page.py

loc: $(STAMP) ## fail where a file has 300 lines or a function 60
	$(BIN)/pytest -q tests/test_hygiene.py

pytest: $(STAMP) ## the tests of `make test` alone; ARGS=tests/config runs some of them
	$(PYTEST) $(ARGS)

bench: $(STAMP) ## time loader, metrics, preparation, training step and analyses (16 GB of disk); results in scripts/bench/results
	@for script in gauc loader prepare prepare_aliexpress step balancing tables sequence_loader sequence_step sequence_floor subnormals kernels ranking_evaluation evaluation mmfi_step memory diagnostics analysis overhead start table; do echo "== $$script"; $(BIN)/python scripts/bench/$$script.py || exit 1; done

bench-quick: $(STAMP) ## compare seven ratios of speed with the committed ones (under three minutes)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/bench/quick.py $(ARGS)

wheel: $(STAMP) ## build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation --outdir dist

clean: ## remove caches and build products (not .venv, data or runs)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find stemlab tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
