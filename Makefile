# Two commands: `make repro` runs the pipeline on the bundled sample, `make test` runs the tests.
ifneq ($(firstword $(sort 3.82 $(MAKE_VERSION))),3.82)
$(error make $(MAKE_VERSION) is too old; matscout needs GNU make 3.82 or newer)
endif

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-all lint bench bench-accuracy bench-hypothetical rehearsal lock
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

help:
	@echo "make repro   install if needed, run the whole pipeline, show where the results are"
	@echo "make test    install if needed, run the tests"
	@echo "make test-all   run the exhaustive tests, of which make test runs a sample"
	@echo "make setup   install only"
	@echo "make lint    ruff and pyright"
	@echo "make bench   measure the speed after make repro (under 20 minutes on 2 cores), write docs/performance.md"
	@echo "make bench-accuracy   train on the benchmark rows of ../shared/data (hours, resumable), write docs/accuracy.md"
	@echo "make bench-hypothetical   test on compounds that nobody has made (../shared/data, a minute), write docs/hypothetical.md"
	@echo "make rehearsal   run the pipeline on 230,000 rows of replayed services, killed and resumed (hours, resumable), write docs/rehearsal.md"
	@echo "make lock    regenerate requirements.txt from pyproject.toml"

setup:
	@sh setup.sh

repro: setup
	@.venv/bin/matscout mend
	@.venv/bin/matscout repro
	@.venv/bin/matscout results

# Three workers for two cores, because tests wait for processes and servers a quarter of the time. A waiting thread must
# not keep another's core.
test test-all: export OMP_WAIT_POLICY := passive
test test-all: export OMP_NUM_THREADS := 1
PYTEST := .venv/bin/python -m pytest -n 3 --no-loadscope-reorder
test: setup
	$(PYTEST) --dist loadfile $(PYTEST_ARGS)

test-all: setup
	$(PYTEST) --dist load -m exhaustive $(PYTEST_ARGS)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

bench: setup
	.venv/bin/python -m benchmarks.speed.graphs
	.venv/bin/python -m benchmarks.speed.batch_sizes
	.venv/bin/python -m benchmarks.speed.models
	.venv/bin/python -m benchmarks.speed.subnormals
	.venv/bin/python -m benchmarks.speed.precision
	.venv/bin/python -m benchmarks.speed.threads
	.venv/bin/python -m benchmarks.speed.bounds
	.venv/bin/python -m benchmarks.discovery.cascade
	.venv/bin/python -m benchmarks.speed.screening_scale --sizes 2000 10000 --cascade fast 0.3 --distilled .checkpoints/cascade
	.venv/bin/python -m benchmarks.speed.relaxing
	.venv/bin/python docs/performance_table.py

bench-accuracy: setup
	.venv/bin/python -m benchmarks.accuracy bench6k
	.venv/bin/python -m benchmarks.accuracy curves
	.venv/bin/python -m benchmarks.accuracy ablations
	.venv/bin/python -m benchmarks.accuracy search
	.venv/bin/python -m benchmarks.accuracy mp_36k
	.venv/bin/python -m benchmarks.accuracy.transfer
	.venv/bin/python -m benchmarks.accuracy.transfer --lr-scale 0.3
	.venv/bin/python docs/accuracy_table.py
	.venv/bin/python docs/accuracy_figures.py

bench-hypothetical: setup
	.venv/bin/python -m benchmarks.hypothetical
	.venv/bin/python docs/results_table.py

# REHEARSAL="--rows 3000 --epochs 1" is a quick one
rehearsal: setup
	.venv/bin/python -m benchmarks.rehearsal $(REHEARSAL)

lock:
	sh lock.sh
