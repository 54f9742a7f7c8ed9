# Every target works on a fresh clone: it makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# An index of CPU-only PyTorch wheels, for machines without CUDA:
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
READY := $(VENV)/.ready
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long test-all test-cluster test-cluster-all check fmt lint types bench cov build clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

setup: $(READY)  ## make .venv with everything pinned

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)  ## train small models on real text, fuse them, judge the result, write a report
	$(BIN)/metafuse demo

test: $(READY)  ## all tests that take less than 5 s (5 to 10 minutes on 2 cores, by machine)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m 'not slow and not long'

test-long: $(READY)  ## the longer ones: the demo, kills, whole runs on Ray (about as long)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m 'long and not slow'

test-all: $(READY)  ## every test, the slow ones too (hours)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-cluster: $(READY)  ## runs and faults on several hosts in namespaces (root, iproute2, util-linux)
	@tests/hosts/netns_ray_cluster.sh check
	$(BIN)/python -m pytest tests/hosts -m 'not slow'

test-cluster-all: $(READY)  ## every fault on several hosts
	@tests/hosts/netns_ray_cluster.sh check
	$(BIN)/python -m pytest tests/hosts --recovery benchmarks/recovery.md

check: $(READY)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory lint types

fmt: $(READY)  ## format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY)  ## ruff, import contracts, sizes of files and functions
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/test_structure.py

types: $(READY)  ## mypy, strict
	$(BIN)/mypy

bench: $(READY)  ## measure the merge beside a bare bound and mergekit, on disk and on S3
	$(BIN)/python benchmarks/merge_speed.py
	$(BIN)/python benchmarks/s3_speed.py

cov: $(READY)  ## branch coverage, and its floors: all of fusion, 93 % of the rest
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m 'not slow'
	$(BIN)/coverage combine
	$(BIN)/coverage report --skip-covered --include='fusion/*' --fail-under=100
	$(BIN)/coverage report --skip-covered --omit='fusion/*' --fail-under=93

build: $(READY)  ## wheel and sdist, contents checked, run from a fresh environment
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python tests/support/check_wheel.py dist

clean:  ## remove what the targets made, but not the environment
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .coverage*
