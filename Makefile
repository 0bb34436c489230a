# Main commands of the project. The first one creates the environment in .venv.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: quickstart test test-slow test-cluster check bench gpu audit format clean

$(READY): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $(READY)

quickstart: $(READY)  ## a real search on the embedded digits, about two minutes on two cores
	$(BIN)/python -m search.run spaces/quickstart.yml

test: $(READY)  ## the default tests, a few minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test-slow: $(READY)  ## the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

test-cluster: $(READY)  ## tests with a real PostgreSQL and MLflow server; skipped with a message if they cannot be installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev,team]' || true
	ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || command -v initdb > /dev/null || apt-get install -y postgresql || true
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -rs tests/cluster

check: $(READY)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)  ## short forms of the benchmarks, about 20 minutes; writes runs/bench (full results: benchmarks/*.md)
	mkdir -p runs/bench
	for name in "train_step --rounds 3 --no-compile" "meter --repeats 3" parallel decisions "search_quality --quick" "faults --quick"; do \
		set -- $$name; echo "benchmarks.$$name"; \
		OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.$$name --json runs/bench/$$1.json || exit 1; \
	done

gpu: $(READY)  ## what this machine's GPU does, part by part, in under eight minutes (docs/gpu.md); writes runs/gpu.json
	mkdir -p runs
	$(BIN)/python -m benchmarks.gpu --json runs/gpu.json --budget 440

audit:  ## known vulnerabilities of the pinned versions, by pip-audit in a separate environment
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit || (echo "audit: pip-audit cannot be installed"; exit 1)
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt --progress-spinner off || \
		(echo "audit: not passed: vulnerabilities as listed, or the advisory service is unreachable"; exit 1)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-audit build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
