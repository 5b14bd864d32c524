# One command each; every target sets DAGSTER_HOME. The first run makes the virtual environment.
PLAN ?= training_plan
PYTHON ?= python3.11
TORCH_INDEX ?=# an index that has torch's CPU build, where the default one has not
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
# its own instance, whatever the environment says; another one: make ... DAGSTER_HOME=/its/folder
export DAGSTER_HOME := $(CURDIR)/.dagster_home
export PATH := $(BIN):$(PATH)
export OPENBLAS_NUM_THREADS ?= 1
export PYTHONDONTWRITEBYTECODE :=
# a file's tests in one process, so that what it prepares is prepared once
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
QUICK := not slow and not drill and not scale
COVERED := $(subst python -m,coverage run -m,$(PYTEST))
WITH_KERNELS := tests/market tests/trading tests/storage tests/evaluation tests/recordings tests/leakage tests/faults tests/learning tests/test_*.py

.PHONY: setup home run test drills scale soak coverage mutation crosscheck lint ui bench docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# an instance's own settings are never overwritten
home: setup
	mkdir -p $(DAGSTER_HOME)
	test -e $(DAGSTER_HOME)/dagster.yaml || cp dagster.yaml $(DAGSTER_HOME)/dagster.yaml

run: home
	$(BIN)/kalshi run --plan $(PLAN)

test: home
	$(PYTEST) -m "$(QUICK)"

# a daemon, a web server and a browser that really run, and processes that are killed
drills: home
	$(PYTEST) -m "drill and not slow and not scale" $(DRILLS)

# beyond one machine: the extras of pyproject.toml, and servers that the tests start on loopback
SCALE := ray,s3,k8s,scale-tests
scale: home
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --no-build-isolation -e ".[$(SCALE)]"
	$(BIN)/python -m pytest -n 0 -m scale
	$(BIN)/python -m pytest -n 0 tests/test_plan_sweep.py

soak: home
	HYPOTHESIS_PROFILE=drawn $(PYTEST) -m "slow and not scale"
	$(MAKE) coverage mutation

# The lines of a kernel are seen only with the compiler off; all the rest as it is used. See docs/TESTING.md
EXACT := kalshi_pipeline/market/*,kalshi_pipeline/trading/*,kalshi_pipeline/storage/*,kalshi_pipeline/evaluation/*
SCALED := kalshi_pipeline/storage/shared.py,kalshi_pipeline/storage/object_store.py
coverage: home
	$(BIN)/coverage erase
	NUMBA_DISABLE_JIT=1 $(COVERED) -p tests.uncompiled -m "$(QUICK) and not compiled" $(WITH_KERNELS)
	$(COVERED) -m "$(QUICK)"
	$(BIN)/coverage combine
	$(BIN)/coverage report --include="$(EXACT)" --omit="$(SCALED)" --fail-under=100
	$(BIN)/coverage report --omit="$(EXACT),$(SCALED)" --fail-under=95

mutation: home
	$(BIN)/python -m tests.mutation

# against hftbacktest, which needs an older NumPy and so an environment of its own
crosscheck: home
	test -d .venv-peers || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check "hftbacktest==2.4.4"
	$(BIN)/python -m pytest -n 0 tests/crosscheck

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Dagster, and beside it the pages its links lead to (KALSHI_REPORT_PORT); both end together
ui: home
	$(BIN)/kalshi report serve & trap "kill $$! 2>/dev/null" EXIT INT TERM; \
	$(BIN)/dagster dev --host 127.0.0.1 --port 3000 -w workspace.yaml

bench: setup
	$(BIN)/python -m benchmarks

docs: setup
	$(BIN)/python -m docs.generate

clean:
	rm -rf $(VENV) .dagster_home
