# Two commands do all: `make run` trains a Network in Network and shows what came out, `make test` runs every test.
# Both are quick the second time. PYTHON=python3.12 chooses another interpreter.
# What is installed is checked against the hashes in locked/, see tools/install.py.

PYTHON ?= python3
VENV := .venv
LOCKED := $(wildcard locked/*.txt)
NIN := $(VENV)/bin/nin
RUN := runs/first
PICTURE := docs/pictures/ankle-boot.png

.PHONY: help run test check data clean

help:
	@echo "make run    environment, data, training (some minutes), result, one explained picture"
	@echo "make test   environment with the development extras, then every test"
	@echo "make check  formatting, lint and types"
	@echo "make clean  remove the environment; runs and data stay"

run: $(VENV)/installed $(VENV)/native data
	@if [ -f $(RUN)/config.json ]; then $(NIN) train --resume --out $(RUN); else $(NIN) train --out $(RUN); fi
	@$(NIN) explain $(RUN) $(PICTURE) --out $(RUN)/explained.png
	@echo "curves: $(RUN)/curves.png   class maps: $(RUN)/explained.png   next: $(NIN) predict $(RUN) $(PICTURE)"

# Where the download is not to be had, Debian and Ubuntu carry the same files as a package; without either, the sample
# inside the package is used and `nin train` says so.
data: $(VENV)/installed
	@$(NIN) datasets --download fashion-mnist || sh tools/install-packages dataset-fashion-mnist || true

test: $(VENV)/installed-dev $(VENV)/native
	$(VENV)/bin/python -m pytest -n auto

check: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --platform win32

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "torchnin needs Python 3.11 or newer: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh tools/install-packages python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml $(LOCKED)
	$(VENV)/bin/python tools/install.py run
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(VENV)/bin/python tools/install.py dev
	@touch $@

# Installing compiles them too; this is for a checkout in which they have changed.
$(VENV)/native: $(VENV)/installed hatch_build.py $(wildcard src/torchnin/models/native/*.[ch])
	@$(VENV)/bin/python hatch_build.py
	@touch $@

clean:
	rm -rf $(VENV)
