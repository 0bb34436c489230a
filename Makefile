# Everything the project does, as plain commands. The environment is made in .venv, once.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: quickstart test test-slow test-cluster check bench audit format clean

$(READY): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $(READY)

quickstart: $(READY)  ## the main job on the embedded digits: a real search, about two minutes on two cores
	$(BIN)/python -m search.run spaces/quickstart.yml

test: $(READY)  ## the tests of some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

test-slow: $(READY)  ## the tests that take longer
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

test-cluster: $(READY)  ## real PostgreSQL and MLflow's server, installed where that is allowed; else it says so and skips
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev,team]' || true
	ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null || apt-get install -y postgresql || true
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -rs tests/cluster

check: $(READY)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)  ## the benchmarks in their short forms, some 20 minutes; figures in runs/bench, the long forms in benchmarks/
	mkdir -p runs/bench
	for name in "train_step --rounds 3 --no-compile" "meter --repeats 3" parallel decisions "search_quality --quick" "faults --quick"; do \
		set -- $$name; echo "benchmarks.$$name"; \
		OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.$$name --json runs/bench/$$1.json || exit 1; \
	done

audit:  ## known security holes of the pinned versions, by pip-audit in an environment of its own
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit || (echo "audit: pip-audit cannot be installed here"; exit 1)
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt --progress-spinner off || \
		(echo "audit: not passed: holes as listed, or the advisory service cannot be reached from here"; exit 1)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-audit build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
