# Two commands are enough: `make learn` to work through the course, `make test` to prove it.
# Everything that thinks lives in scripts/ and in the `course` command; this file only names it.

.DEFAULT_GOAL := help
.PHONY: help learn assistant test test-quick soak build bench vllm lint env clean

PY := .venv/bin/python
COURSE := .venv/bin/course
ASSISTANT := .venv/bin/assistant
PYTEST := OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 $(PY) -m pytest
# Two at a time, one thread each: the tests that start a browser share one group.
PARALLEL := -n 2 --dist loadgroup
export PYTHON

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

env: ## make or mend the environment (.venv); the other commands do it by themselves
	@sh scripts/env.sh $(if $(filter cpu,$(TORCH)),--cpu-torch)

learn: env ## open the course in JupyterLab (COURSE_PORT=8888 chooses the port)
	@exec $(COURSE) learn

assistant: env ## start the assistant on http://localhost:8000 (ASSISTANT_PORT=8000 chooses the port)
	@exec $(ASSISTANT) serve

build: env ## rebuild every notebook from its master
	@$(COURSE) build

lint: env ## style of the code, the scripts and the masters
	@$(PY) scripts/lint.py

test: env lint ## prove everything: checks, notebooks, grading, JupyterLab in a browser
	@$(COURSE) build --check
	@$(PYTEST) $(PARALLEL) -m "not soak"

test-quick: env ## the tests that take less than three minutes together
	@$(PYTEST) $(PARALLEL) -m "not soak and not slow and not browser"

soak: env ## proofs that take too long for `make test`: load, faults, many seeds
	@$(PYTEST) -m soak

bench: env ## measure, and write tests/benchmarks/results/ and docs/benchmarks.md
	@$(PY) -m tests.benchmarks

vllm: env ## install vLLM's CPU build in .build/vllm (about 4 GB) and measure it beside the course's engine
	@$(PY) scripts/vllm_env.py

clean: ## delete what was built (never workspace/, nor the texts that were fetched)
	@rm -rf .pytest_cache .ruff_cache .mypy_cache
	@if [ -d .build ]; then find .build -mindepth 1 -maxdepth 1 ! -name data -exec rm -rf {} +; fi
