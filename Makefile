# `make help` lists the targets. The virtual environment .venv is made on first
# use, and again when a file that pins a package changes.
PYTHON ?=

VENV := .venv
RUN := $(VENV)/bin/python
# Written last, so that an interrupted installation is not taken for a whole one.
STAMP := $(VENV)/installed

.PHONY: help install test lint demo gallery pictures docs compat clean

help:
	@echo 'make install   make $(VENV) with the pinned packages (Python 3.10 or 3.11)'
	@echo 'make test      run the tests'
	@echo 'make lint      check style, format and types'
	@echo 'make demo      search, train and export a small network on generated pedestrians'
	@echo 'make gallery   search for people of the demo on a page'
	@echo 'make pictures  draw what the network of the demo has learnt, in docs/pictures'
	@echo 'make docs      build the documentation as a site, runs/site/index.html'
	@echo 'make compat    run exported files in other runtimes (docs/export.md; gigabytes)'
	@echo 'make clean     remove $(VENV) and the caches; runs/ stays'
	@echo
	@echo 'PYTHON=/path/to/python names the interpreter to install with.'

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml requirements_lock.txt
	@sh tools/make_venv.sh $(VENV) $(STAMP) "$(PYTHON)"

test: $(STAMP)
	$(RUN) -m pytest

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy cdnet_tf tools

demo: $(STAMP)
	@rm -rf runs/demo
	$(RUN) -m cdnet_tf.search --flagfile=flags/table.cfg --device=ethos-u65-256 \
		--max_ms=0.6 --run_dir=runs/demo/camera
	$(RUN) -m cdnet_tf.search --flagfile=flags/cds.cfg --flagfile=flags/demo.cfg \
		--epochs=4 --run_dir=runs/demo/search
	$(RUN) -m cdnet_tf.train --flagfile=flags/pedestrians.cfg --epochs=16 \
		--zero_init_residual --genotype=runs/demo/search --run_dir=runs/demo/train
	$(RUN) tools/export_tflite.py --flagfile=flags/demo.cfg \
		--model=runs/demo/train/model.keras --output_dir=runs/demo/tflite \
		--variants=float32,int8
	$(RUN) tools/summarise.py --flagfile=flags/demo.cfg \
		--model=runs/demo/train/model.keras --export_dir=runs/demo/tflite
	@echo 'make gallery serves a page on which you search for these people.'

gallery: $(STAMP) runs/demo/train/model.keras
	$(RUN) tools/fill_gallery.py --flagfile=flags/demo.cfg \
		--model=runs/demo/train/model.keras --gallery=runs/demo/gallery
	$(RUN) -m cdnet_tf.serve_gallery --model=runs/demo/train/model.keras \
		--gallery=runs/demo/gallery --new_token=demo

# PICTURES_OF=NETWORK takes shipped weights, and no demo is needed.
PICTURES_OF := runs/demo/train/model.keras

pictures: $(STAMP) $(filter runs/%,$(PICTURES_OF))
	$(RUN) tools/visualize.py --flagfile=flags/demo.cfg --model=$(PICTURES_OF) \
		--count=4 --output_dir=docs/pictures \
		$(addprefix --search_dir=,$(wildcard runs/demo/search))

runs/demo/train/model.keras:
	$(MAKE) demo

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

compat: $(STAMP)
	$(RUN) tools/compat.py

clean:
	rm -rf $(VENV) .compat build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find cdnet_tf tools tests -name __pycache__ -type d -prune -exec rm -rf {} +
