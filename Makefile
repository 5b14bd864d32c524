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

.PHONY: setup home run test drills soak crosscheck lint ui bench docs clean

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
	$(PYTEST) -m "not slow and not drill"

# a daemon, a web server and a browser that really run, and processes that are killed
drills: home
	$(PYTEST) -m "drill and not slow"

soak: home
	HYPOTHESIS_PROFILE=drawn $(PYTEST) -m slow

# against hftbacktest, which needs an older NumPy and so an environment of its own
crosscheck: home
	test -d .venv-peers || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check "hftbacktest==2.4.4"
	$(BIN)/python -m pytest -n 0 tests/crosscheck

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: home
	$(BIN)/dagster dev --host 127.0.0.1 --port 3000 -w workspace.yaml

bench: setup
	$(BIN)/python -m benchmarks

docs: setup
	$(BIN)/python -m docs.generate

clean:
	rm -rf $(VENV) .dagster_home
