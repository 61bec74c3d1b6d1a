# Every target sets up what it needs first; a second run starts in seconds.
PYTHON ?= python3
BIN := .venv/bin
KEEP ?= 0
TIME ?= 600

.PHONY: help setup demo test bench lint model fuzz lock clean

help:
	@echo "make demo          start the appliance here, run one real round, say what was verified, stop"
	@echo "make demo KEEP=1   the same, and leave it up"
	@echo "make test          run all tests"
	@echo "make bench         measure, as a table and as JSON"
	@echo "make lint          ruff, mypy, import contracts, clippy"
	@echo "make model         check the model of the handshake, and that its broken variants fail"
	@echo "make fuzz          fuzz every parser for TIME=600 seconds in all"
	@echo "make lock          resolve the lock files again"
	@echo "make clean         remove what this checkout built (the cache stays: see README)"

setup:
	@$(PYTHON) tools/setup.py demo

demo: setup
	@KEEP=$(KEEP) $(BIN)/python -m tools.demo

test:
	@$(PYTHON) tools/setup.py demo test
	@$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

bench: setup
	@$(BIN)/python bench/run.py $(ARGS)

lint:
	@$(PYTHON) tools/setup.py demo lint
	@$(BIN)/python tools/lint.py

model:
	@$(PYTHON) tools/model.py $(ARGS)

fuzz:
	@$(PYTHON) tools/setup.py demo fuzz
	@$(BIN)/python -m fuzz.run --seconds $(TIME) $(ARGS)

lock:
	@$(PYTHON) tools/setup.py demo
	@$(BIN)/python tools/lock.py $(BIN)/uv

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build
	rm -f tests/thirdparty/node_modules
