.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
FASHION := data/FashionMNIST/raw/t10k-labels-idx1-ubyte
DEMO := outputs/demo
# Of ImageNet: val/<wnid>/*.JPEG, and train/ for method=real. COCO is a folder too.
DATA ?= data/imagenet
COCO ?=

# The experiments of a suite, a folder of conf/experiment.
suite = $(patsubst conf/experiment/%.yaml,experiment=%,$(wildcard conf/experiment/$(1)/*.yaml))
# Tables, figures and the page of what lies in a folder.
REPORT = for each in tables figures report; do $(RUN) -m experiments.$$each outputs=$(1) || exit 1; done
# Runs them one after the other; what fails in one keeps neither the others nor the report from being made.
EVERY = failed=0; for words in $(1); do $(RUN) -m experiments.run $$words || failed=1; done; \
    $(call REPORT,outputs); exit $$failed
# Test files are shared by as many processes as there are cores, each with a thread.
SHARED := -n auto --maxprocesses 4 --dist loadfile
# glibc gives large blocks back to the kernel after every step; keeping them makes training on a CPU 1.7 times faster.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296

.PHONY: help demo test test-all test-results lint data train-zoo paper-embedded paper sweeps extensions $\
    efficientnet-lite0 exports tables figures report other-tools bench clean
help: ## Show this list
	@grep -hE '^[a-z0-9-]+.*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: $(INSTALLED) $(FASHION) ## A small network, four methods, three bit settings: one table, figures
	$(RUN) -m experiments.run experiment=demo
	$(call REPORT,$(DEMO))

test: $(INSTALLED) $(FASHION) ## The test suite (COVERAGE=1 measures what it reaches, in half as much time again)
ifdef COVERAGE
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest $(SHARED)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage json --quiet
	$(RUN) tests/coverage_floors.py outputs/coverage/report.json
else
	$(RUN) -m pytest $(SHARED)
endif

test-all: $(INSTALLED) $(FASHION) ## The test suite with the slow tests: the paper's networks at their real size
	$(RUN) -m pytest $(SHARED) -m ""

test-results: $(INSTALLED) $(FASHION) ## Check what is committed: records, tables, figures, numbers in texts
	$(RUN) -m pytest tests/results -m ""

lint: $(INSTALLED) ## Check style, formatting and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

data: $(FASHION) ## Obtain Fashion-MNIST

train-zoo: $(INSTALLED) $(FASHION) ## Train the bundled networks again (continues where it was stopped)
	$(KEEP_MEMORY) $(RUN) -m experiments.train_zoo

paper-embedded: $(INSTALLED) $(FASHION) ## Every table and figure of the paper at the bundled scale (skips what is done; hours)
	$(call EVERY,$(call suite,paper))

paper: $(INSTALLED) ## The same with the networks of the paper (DATA=folder of ImageNet, COCO=folder; a GPU, hours)
	@$(if $(COCO),,echo "RetinaNet is left out; COCO=folder names your copy of COCO")
	$(call EVERY,$(patsubst %,"% scale=imagenet data.root=$(DATA)",$(filter-out %/retinanet,$(call suite,paper))) \
	    $(if $(COCO),"experiment=paper/retinanet detector=coco/retinanet_resnet50 data.root=$(COCO)"))

sweeps extensions: $(INSTALLED) $(FASHION) ## One setting changed at a time; what else was measured (skips what is done; hours)
	$(call EVERY,$(call suite,$@))

efficientnet-lite0: $(INSTALLED) ## An ImageNet network that any machine can have (DATA=folder; skips what is done; hours)
	$(call EVERY,$(patsubst %,"% data.root=$(DATA)",$(call suite,efficientnet_lite0)))

exports: $(INSTALLED) $(FASHION) ## Every placement's runs, and the ONNX files of the integer ones, scored in onnxruntime (40 minutes)
	$(RUN) -m experiments.run experiment=extensions/deployment
	for run in outputs/runs/fashion-*placement=integer; do $(RUN) -m experiments.export "run=$$run" || exit 1; done
	for run in $(wildcard outputs/runs/imagenet-*placement=integer); do \
	    $(RUN) -m experiments.export "run=$$run" "data.root=$(DATA)" || exit 1; done
	$(RUN) -m experiments.tables outputs=outputs

tables figures: $(INSTALLED) ## Every committed table or figure again, from the records
	$(RUN) -m experiments.$@

report: tables figures ## One page with all of them: outputs/report.html
	$(RUN) -m experiments.report

other-tools: $(INSTALLED) $(FASHION) ## onnxruntime, NNCF, PT2E, MCT and AIMET beside zeroq (skips what is done; hours)
	$(RUN) -m pip install -q -r requirements-tools.txt
	$(RUN) -m experiments.other_tools

bench: $(INSTALLED) $(FASHION) ## Time every stage beside its reference (an hour on 2 idle cores)
	$(RUN) -m experiments.bench

clean: ## Remove everything that the other targets made, except data, runs and committed results
	rm -rf $(VENV) $(DEMO) outputs/cache outputs/coverage checkpoints .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement requirements.txt
	touch $@

$(FASHION): | $(INSTALLED)
	$(RUN) -m experiments.obtain_data
