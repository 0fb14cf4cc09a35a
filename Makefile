.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
FASHION := data/FashionMNIST/raw/t10k-labels-idx1-ubyte
DEMO := outputs/demo

EVERY_NETWORK := model=fashion/resnet18,fashion/resnet50,fashion/resnet152,fashion/mobilenetv2,fashion/shufflenet,$\
    fashion/squeezenext,fashion/inceptionv3,fashion/retinanet
THREE_NETWORKS := model=fashion/resnet18,fashion/mobilenetv2,fashion/squeezenext
EVERY_METHOD := method=naive,dfq,gaussian,zeroq,zeroq+dfq,real
EVERY_BITS := bits=w8a8,w6a6,w4a8,w4a4,mp6a6,mp4a8
UNIFORM_BITS := bits=w8a8,w6a6,w4a8
# Holds val/<wnid>/*.JPEG, and train/ for method=real.
IMAGENET ?= data/imagenet
EFFICIENTNET := $(RUN) -m experiments.run -m model=imagenet/efficientnet_lite0 data.root=$(IMAGENET)
WIDE := bits=mp4a8 'bits.candidates=[2,3,4,5,6,8]'

# DFQ's steps, one after the other, before the correction of biases.
define ABLATION
$(1) method=dfq method.bias_correction=none method.absorb=false method.equalize=false method.replace_relu6=false
	$(1) method=dfq method.bias_correction=none method.absorb=false method.equalize=false
	$(1) method=dfq method.bias_correction=none method.absorb=false
	$(1) method=dfq method.bias_correction=none
endef
PAPER := table_resnet18 table_resnet50 table_resnet152 table_mobilenetv2 table_shufflenet table_squeezenext $\
    table_inceptionv3 table_w8a8 table_calibration table_mixed table_dfq table_dfq_float figure_plans figure_images
SWEEPS := sweep_candidates sweep_images sweep_iterations sweep_learning_rate sweep_percentile sweep_seeds sweep_size $\
    sweep_statistics
DATA ?= data/imagenet
COCO ?=
# Runs one after the other; what fails in one keeps neither the others nor the report from being made.
EVERY = failed=0; for words in $(1); do $(RUN) -m experiments.run $$words || failed=1; done; $(MAKE) report && exit $$failed
FLOAT := bits=w8a8 bits.weight=32 bits.activation=32
COMMA := ,

# glibc gives large blocks back to the kernel after every step and asks for them again; keeping them
# makes training on a CPU about 1.7 times faster.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: $(INSTALLED) $(FASHION) ## Both small networks, four methods, four bit settings: one table, figures
	$(RUN) -m experiments.run -m outputs=$(DEMO) \
	    model=fashion/resnet18,fashion/mobilenetv2 method=naive,gaussian,zeroq,real bits=w8a8,w4a8,w4a4,mp4a8
	$(RUN) -m experiments.figures results=$(DEMO)
	$(RUN) -m experiments.tables results=$(DEMO)

.PHONY: test
test: $(INSTALLED) $(FASHION) ## The test suite
	$(RUN) -m pytest

.PHONY: test-all
test-all: $(INSTALLED) $(FASHION) ## The test suite with the slow tests: the paper's networks at their real size
	$(RUN) -m pytest -m ""

.PHONY: lint
lint: $(INSTALLED) ## Check style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

.PHONY: data
data: $(FASHION) ## Obtain Fashion-MNIST

.PHONY: train-zoo
train-zoo: $(INSTALLED) $(FASHION) ## Train the bundled networks again (continues where it was stopped)
	$(KEEP_MEMORY) $(RUN) -m experiments.train_zoo

.PHONY: runs
runs: $(INSTALLED) $(FASHION) ## The committed runs of the bundled networks again (skips what is done; hours)
	$(RUN) -m experiments.run -m $(EVERY_NETWORK) $(EVERY_METHOD) $(EVERY_BITS)
	$(RUN) -m experiments.run -m $(THREE_NETWORKS) method=gaussian,zeroq,zeroq+dfq,real $(EVERY_BITS) seed=1,2
	$(RUN) -m experiments.run -m $(EVERY_NETWORK) distill=bounded bits=w8a8,w6a6,w4a8,w4a4,mp4a8
	$(RUN) -m experiments.run -m model=fashion/mobilenetv2 distill=bounded bits=w8a8,w4a4 seed=1,2,3,4
	$(RUN) -m experiments.run -m model=fashion/mobilenetv2 distill.statistics=batch bits=mp4a8
	$(RUN) -m experiments.run -m $(THREE_NETWORKS) bits=w4a8,w4a4 seed=3,4
	$(RUN) -m experiments.run -m $(THREE_NETWORKS) distill=fast bits=w4a8,w4a4 seed=0,1,2,3,4
	$(RUN) -m experiments.run -m $(THREE_NETWORKS) distill=fast bits=mp4a8 sensitivity=exact,estimated seed=0,1,2
	$(RUN) -m experiments.run -m $(EVERY_NETWORK) distill=fast bits=mp4a8 sensitivity=exact,estimated
	$(RUN) -m experiments.run -m model=fashion/resnet50 method=naive,zeroq bits=w4a8 bits.activation=32
	$(RUN) -m experiments.run -m $(EVERY_NETWORK) $(UNIFORM_BITS) \
	    method=naive,dfq,zeroq,zeroq+dfq method.per_channel=true,false
	$(RUN) -m experiments.run -m $(EVERY_NETWORK) $(UNIFORM_BITS) method.bias_correction=empirical
	$(RUN) -m experiments.run -m model=fashion/resnet50,fashion/resnet152,fashion/shufflenet bits=w4a8 \
	    method=dfq method.equalize=false method.bias_correction=analytic,none
	$(RUN) -m experiments.run -m model=fashion/resnet50,fashion/resnet152,fashion/shufflenet bits=w4a8 \
	    method=zeroq+dfq method.per_channel=false method.equalize=false
	$(RUN) -m experiments.run -m model=fashion/resnet50,fashion/resnet152,fashion/shufflenet bits=w4a8 \
	    method=dfq method.per_channel=true method.equalize=false
	$(call ABLATION,$(RUN) -m experiments.run -m model=fashion/mobilenetv2 bits=w8a8$(COMMA)w4a8)
	$(call ABLATION,$(RUN) -m experiments.run -m model=fashion/mobilenetv2 $(FLOAT))
	$(RUN) -m experiments.figures
	$(RUN) -m experiments.tables

.PHONY: runs-imagenet
runs-imagenet: $(INSTALLED) ## The committed runs of EfficientNet-Lite0 again (IMAGENET=folder; hours)
	$(EFFICIENTNET) method=naive,gaussian,zeroq,real bits=w8a8,w6a6,w4a8,mp4a8
	$(EFFICIENTNET) distill=bounded bits=w8a8,w6a6,w4a8,mp4a8,mp6a8
	$(EFFICIENTNET) placement=after_relu method=naive,gaussian,zeroq,real bits=w8a8,w4a8,mp4a8
	$(EFFICIENTNET) placement=after_relu distill=bounded bits=w8a8,w4a8,mp4a8,mp6a8
	$(EFFICIENTNET) placement=after_relu bits=mp6a8
	$(EFFICIENTNET) placement=after_relu distill=bounded bits=mp4a8 'bits.candidates=[2,3,4,5,6,7,8]'
	$(EFFICIENTNET) placement=after_relu method=gaussian,real $(WIDE)
	$(EFFICIENTNET) placement=after_relu,layer_inputs $(WIDE)
	$(EFFICIENTNET) placement=after_relu,layer_inputs distill=bounded $(WIDE)
	$(EFFICIENTNET) placement=after_relu distill=bounded $(WIDE) distill.count=8,16
	$(EFFICIENTNET) placement=after_relu distill=bounded $(WIDE) bits.refine=8
	$(EFFICIENTNET) placement=after_relu distill=bounded $(WIDE) sensitivity_direction=symmetric
	$(EFFICIENTNET) distill=fast bits=w8a8,mp4a8 placement=layer_inputs,after_relu,integer
	for run in outputs/runs/imagenet-*placement=integer; do \
	    $(RUN) -m experiments.export "run=$$run" data.root=$(IMAGENET) || exit 1; done
	$(EFFICIENTNET) bits=w8a8 method=dfq,zeroq method.per_channel=false
	$(EFFICIENTNET) bits=w8a8 method=zeroq+dfq method.per_channel=false method.replace_relu6=true,false
	$(EFFICIENTNET) bits=w8a8 method=dfq method.replace_relu6=false
	$(EFFICIENTNET) bits=w8a8 method=dfq method.replace_relu6=false method.bias_correction=none method.absorb=true,false
	$(call ABLATION,$(EFFICIENTNET) bits=w8a8)
	$(call ABLATION,$(EFFICIENTNET) $(FLOAT))
	$(RUN) -m experiments.figures
	$(RUN) -m experiments.tables

.PHONY: tables
tables: $(INSTALLED) ## Every table again, from the records
	$(RUN) -m experiments.tables

.PHONY: figures
figures: $(INSTALLED) ## Every figure again, from the records
	$(RUN) -m experiments.figures

.PHONY: report
report: tables figures ## One page with all of them: results/report.html
	$(RUN) -m experiments.report

.PHONY: paper-embedded
paper-embedded: $(INSTALLED) $(FASHION) ## Every table and figure of the paper at the bundled scale (skips what is done; hours)
	$(call EVERY,$(PAPER:%=experiment=%) experiment=table_retinanet)

.PHONY: sweeps
sweeps: $(INSTALLED) $(FASHION) ## Every sweep over one setting at the bundled scale (skips what is done; an hour)
	$(call EVERY,$(SWEEPS:%=experiment=%))

.PHONY: paper
paper: $(INSTALLED) ## The same with the networks of the paper (DATA=folder of ImageNet, COCO=folder; a GPU, hours)
	@$(if $(COCO),,echo "RetinaNet is left out; COCO=folder names your copy of COCO")
	$(call EVERY,$(PAPER:%="experiment=% scale=imagenet data.root=$(DATA)") \
	    $(if $(COCO),"experiment=table_retinanet detector=coco/retinanet_resnet50 data.root=$(COCO)"))

.PHONY: exports
exports: $(INSTALLED) $(FASHION) ## Every placement's runs, and the ONNX files of the integer ones, scored in onnxruntime (40 minutes)
	$(RUN) -m experiments.run experiment=table_deployment
	for run in outputs/runs/fashion-*placement=integer; do $(RUN) -m experiments.export "run=$$run" || exit 1; done
	$(RUN) -m experiments.tables

.PHONY: other-tools
other-tools: $(INSTALLED) $(FASHION) ## onnxruntime, NNCF and PT2E with distilled images (skips what is done; half an hour)
	$(RUN) -m pip install -q -r requirements-tools.txt
	$(RUN) -m experiments.other_tools

.PHONY: bench
bench: $(INSTALLED) $(FASHION) ## Time every stage beside its reference (an hour on 2 idle cores)
	$(RUN) -m experiments.bench

.PHONY: clean
clean: ## Remove everything that the other targets made, except data and committed results
	rm -rf $(VENV) $(DEMO) outputs/cache checkpoints .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement requirements.txt
	touch $@

$(FASHION): | $(INSTALLED)
	$(RUN) -m experiments.obtain_data
