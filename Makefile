# make demo    make the environment and run the main job on a rendered dataset
# make test    make the environment with everything the tests need, and run them all
# make check   lint, format and types
# make fast    only the tests that take seconds
# make bench   run the benchmarks; DATA=folder adds the sets that are on disk

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two files of tests at a time, each on one core: with threads of their own they would only be in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --max-worker-restart 0
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test fast check format bench clean

demo: $(VENV)/base
	$(BIN)/curate demo

test: $(VENV)/dev $(VENV)/browser
	$(PYTEST)

fast: $(VENV)/dev $(VENV)/browser
	$(PYTEST) -m 'not slow'

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/dev
	$(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA))

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

# Each stamp is as new as the last installation of its extras.
$(VENV)/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

# Chromium, in which pages are tested; without it, and without the right to install it, those tests are skipped.
$(VENV)/browser: $(VENV)/base
	command -v chromium > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
	  || echo "no chromium here: tests of pages will be skipped"
	touch $@

$(VENV)/dev: $(VENV)/base
	$(PIP) --editable '.[dev]'
	touch $@
