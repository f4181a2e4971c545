# Two commands on a fresh machine: `make study` and `make test`.
# Needs Python 3.11 or newer, make and a package registry; nothing else.

PYTHON ?= python3
STUDY  ?= digits-few-labels
ROOT   ?= out
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: study publish test test-long truth fuzz crash-test bench lint venv docs methods ui clean

study: venv
	$(BIN)/kdbench study $(STUDY) --root $(ROOT)

# Replace the committed report of a study by the one that `make study` has written.
publish:
	test -d $(ROOT)/reports/$(STUDY)
	rm -rf reports/$(STUDY)
	mkdir -p reports
	cp -R $(ROOT)/reports/$(STUDY) reports/$(STUDY)
	@[ ! -x $(BIN)/python ] || $(BIN)/python -c 'from pathlib import Path; from kdbench.report.page.all_reports import write_all_reports; write_all_reports(Path("reports"))'

test: venv
	$(BIN)/python -m pytest -n auto --dist worksteal

test-long: venv
	$(BIN)/python -m pytest -n auto --dist worksteal -m long

# How often each word of a verdict is wrong, simulated: the tables of docs/verdict.md.
truth: venv
	PYTHONPATH=tests $(BIN)/python -m support.truth
	PYTHONPATH=tests $(BIN)/python -m support.look_truth

fuzz: venv
	KDBENCH_FUZZ=5000 $(BIN)/python -m pytest tests/study/test_fuzz.py tests/data/test_damaged_files.py

crash-test: venv
	$(BIN)/python tests/support/crash.py random --kills 100
	$(BIN)/python tests/support/crash.py random --kills 30 --processes 2 --seed 1
	$(BIN)/python tests/support/crash.py random --kills 30 --processes 4 --seed 2
	$(BIN)/python tests/support/crash.py boundaries
	PYTHONPATH=tests $(BIN)/python -m support.mixed_kills --kills 200
	$(BIN)/python -m pytest -n auto --dist worksteal -m long tests/execution tests/tracking

# On a machine with nothing else to do; CIFAR-10 is read from KDBENCH_DATA.
bench: venv
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/study.py
	if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	  $(BIN)/python -m pytest tests/training/test_cuda_graphs.py -m '' \
	  && $(BIN)/python benchmarks/gpu.py; \
	else echo "no CUDA device: benchmarks/gpu.py left out"; fi

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy kdbench

# The site in site/, which needs no network and no server; the page of all methods is made first.
docs: methods
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

methods: venv
	$(BIN)/python -c 'from kdbench.cli.catalogue import markdown; print(markdown(), end="")' > docs/methods.md
	$(BIN)/python -c 'from kdbench.study.method_texts import builtin_table; print(builtin_table(), end="")' > kdbench/records/methods.json
	$(BIN)/python -c 'from kdbench.study.method_texts import paper_table; print(paper_table(), end="")' > kdbench/records/papers.json

ui: venv
	$(BIN)/kdbench ui --root $(ROOT)

venv: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "kdbench needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,dashboard]'
	@touch $@

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .hypothesis
