# make demo · make test · make bench: each makes .venv and installs what it needs. Python with venv is all they assume.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint types bench clean

demo: .venv/plot
	$(BIN)/fastnn train spiral
	$(BIN)/fastnn train digits

test: .venv/test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Peers (torch, jax, onnx and onnxruntime, scikit-learn) take part where they are installed in .venv.
bench: .venv/bench
	mkdir -p build
	$(BIN)/python -m pytest --benchmark-only --benchmark-json=build/bench.json $(PYTEST_ARGS)

lint: .venv/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Types are checked in the installed package, where the kernels are inside it.
types: .venv/lint
	$(BIN)/pip install --quiet --no-deps --force-reinstall .
	cd .venv && bin/mypy --config-file ../pyproject.toml --package fastnn
	$(BIN)/pip install --quiet --no-deps --editable .

# Each extra of setup.cfg is installed once, and again when setup.cfg changes.
.venv/%: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --editable '.[$*]'
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
