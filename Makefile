# Everything runs in .venv (this project, Python 3.13) and .tools (the programs around it, each in an environment of its
# own). A bare machine needs some python3, make and git. Both folders may be deleted at any time.

# ---- The exact version of every tool. After a change: `make lock`. ---------------------------------------------------
UV_VERSION := 0.13.9
MINISTACK  := ministack[full]==1.5.33
# SAM builds the layer with the pip of the Python 3.13 that is first on PATH: its own environment's.
SAM        := aws-sam-cli==1.170.0 pip==26.2
CHECKOV    := checkov==3.3.30
# Only the tests that run the README use it; its version 2 is not on the package index.
AWS        := awscli==1.46.3

# ---- What is built from what ------------------------------------------------------------------------------------------
UV        = $(shell command -v uv || echo .tools/uv/bin/uv)
# uv with our Python, so that it neither looks for another nor fetches one.
UV_313    = UV_PYTHON_DOWNLOADS=never UV_PYTHON="$$(cat .tools/python)" "$(UV)"
PYTHON    = .venv/bin/python
SAM_CLI   = .tools/sam/bin/sam
MANIFESTS = pyproject.toml $(wildcard */pyproject.toml layers/*/pyproject.toml)
LAYER     = layers/quaymaster
SOURCES   = template.yaml samconfig.toml tools/build.py tools/slim_layer.py $(BUILT)
# Folders as well: theirs is the only time that changes when a file is removed.
BUILT     = $(shell find functions $(LAYER)/quaymaster -name '*.py' -o -type d -not -name __pycache__)
PYTEST_ARGS ?=
# Two processes: the suites on the local cloud stay in one (tests/conftest.py).
SHARED_OUT  ?= --numprocesses=2 --dist=loadscope --no-loadscope-reorder --max-worker-restart=0
SEEDS       ?= 1000
SAM_ARGS    ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-busy fast check check-code check-template simulate defects scan bench local build wheels deploy tools format lock clean
export SAM_CLI_TELEMETRY := 0

# The five that one needs first, in that order; then the others.
FIRST := demo local test format deploy

help: ## what can be made
	@for name in $(FIRST); do sed -n "s/^\($$name\):.*## \(.*\)/  make \1\t\2/p" Makefile; done | expand -t 18
	@echo
	@for name in $(FIRST); do echo "/^$$name:/d"; done | sed -f - Makefile | \
	  sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' | expand -t 18

demo: .venv/.synced tools build ## the whole system on this machine, on a live screen
	@$(PYTHON) -m quaymaster_local.demo

local: .venv/.synced tools build ## start the local cloud
	@.venv/bin/quaymaster local up

test: .venv/.synced tools .tools/aws/.installed .tools/engine/.installed dist/wheels/.made build ## every test, those on the local cloud included
	$(PYTHON) -m pytest $(SHARED_OUT) $(PYTEST_ARGS)

test-busy: .venv/.synced tools .tools/aws/.installed .tools/engine/.installed dist/wheels/.made build ## every test beside three busy loops, as on a machine that others use
	@python3 tools/leaves_nothing.py python3 tools/on_a_busy_machine.py 3 $(PYTHON) -m pytest $(SHARED_OUT) --durations=20 $(PYTEST_ARGS)

fast: .venv/.synced ## the tests that need nothing but memory
	$(PYTHON) -m pytest -m "not local and not docker" tests/unit tests/contract

check: check-code check-template ## format, lint, imports, types, template: what CI runs first

check-code: .venv/.synced
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/lint-imports --no-cache --no-logo
	.venv/bin/pyright

check-template: .venv/.synced .tools/sam/.installed
	.venv/bin/cfn-lint
	$(SAM_CLI) validate --lint --region us-east-1

simulate: .venv/.synced ## SEEDS histories of crashes and lost messages, in memory (SEEDS=1000)
	@$(PYTHON) -m tests.simulation --seeds $(SEEDS)

defects: .venv/.synced ## every defect of the simulation's list, with the invariant that notices it; remembers the seeds
	@$(PYTHON) -m tests.simulation --defects

scan: .tools/checkov/.installed ## the template against checkov's rules; .checkov.yaml says what is left out, and why
	.tools/checkov/bin/checkov --config-file .checkov.yaml

bench: .venv/.synced tools dist/wheels/.made build ## the figures, printed and written to build/bench.json
	@$(PYTHON) -m bench

build: .aws-sam/build/template.yaml ## what `sam deploy` deploys

wheels: dist/wheels/.made ## the agent and the command line with all that they need, as wheels for machines like this

deploy: build ## to AWS, after asking (SAM_ARGS="--parameter-overrides Subnets=... SecurityGroups=...")
	$(SAM_CLI) deploy $(SAM_ARGS)

tools: .tools/ministack/.installed .tools/sam/.installed ## the programs around the project

format: .venv/.synced ## format and fix what can be fixed
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

clean: ## remove what is built (.venv, .tools and .local stay)
	rm -rf .aws-sam build dist .pytest_cache .ruff_cache .hypothesis $(LAYER)/requirements.txt

# ---- Environments -----------------------------------------------------------------------------------------------------
.tools/uv/bin/uv:
	@echo "==> uv $(UV_VERSION) into .tools/uv"
	@python3 tools/install_uv.py .tools/uv $(UV_VERSION)

# The path of a Python 3.13, found once, and again when it is gone.
$(if $(wildcard $(shell cat .tools/python 2>/dev/null)),,$(shell rm -f .tools/python))
.tools/python: tools/find_python | $(UV)
	@mkdir -p .tools
	@UV="$(UV)" sh tools/find_python > $@

.venv/.synced: uv.lock $(MANIFESTS) .tools/python
	@echo "==> the project into .venv"
	@$(UV_313) sync --quiet --locked
	@touch $@

.tools/%/.installed: tools/%.txt .tools/python
	@echo "==> $* into .tools/$*"
	@$(UV_313) venv --quiet --allow-existing .tools/$*
	@"$(UV)" pip sync --quiet --python .tools/$*/bin/python tools/$*.txt
	@touch $@

.tools/engine/.installed: tools/engine.py .tools/python
	@echo "==> a container engine and a base for images into .tools/engine"
	@rm -rf .tools/engine && mkdir -p .tools/engine
	@python3 tools/engine.py .tools/engine "$$(cat .tools/python)"
	@touch $@

lock: .tools/python ## uv.lock and tools/*.txt from what is pinned above and in the manifests
	$(UV_313) lock
	$(call lock_tool,ministack,$(MINISTACK))
	$(call lock_tool,sam,$(SAM))
	$(call lock_tool,checkov,$(CHECKOV))
	$(call lock_tool,aws,$(AWS))

define lock_tool
	printf '%s\n' $(foreach pin,$(2),'$(pin)') | $(UV_313) pip compile --quiet --universal --python-version 3.13 \
	  --no-header --no-annotate -o tools/$(1).txt -
endef

# ---- The wheels -------------------------------------------------------------------------------------------------------
WHEELS  = quaymaster quaymaster-policy quaymaster-sealing quaymaster-worker quaymaster-cli
PACKED  = $(shell find $(LAYER) policy sealing worker cli -name '*.py' -o -path '*/completion/*')

# uv builds them and says what they need; pip, which SAM has anyway, fetches that.
dist/wheels/.made: uv.lock $(MANIFESTS) $(PACKED) .tools/sam/.installed
	@echo "==> wheels into dist/wheels"
	@rm -rf dist/wheels && mkdir -p dist/wheels build
	@for name in $(WHEELS); do $(UV_313) build --quiet --wheel --out-dir dist/wheels --package $$name || exit 1; done
	@for name in worker cli; do $(UV_313) export --quiet --locked --no-dev --no-emit-workspace --no-hashes \
	  --package quaymaster-$$name --output-file build/wheels-$$name.txt || exit 1; done
	@.tools/sam/bin/python -m pip download -qq --disable-pip-version-check --no-deps --only-binary :all: \
	  --dest dist/wheels $(foreach name,worker cli,--requirement build/wheels-$(name).txt)
	@touch $@

# ---- The layer and the functions --------------------------------------------------------------------------------------
$(LAYER)/requirements.txt: uv.lock $(LAYER)/pyproject.toml .tools/python
	@$(UV_313) export --quiet --locked --package quaymaster --extra aws --no-dev --no-emit-workspace --no-hashes \
	  --no-header --no-annotate -o $@ > /dev/null

.aws-sam/build/template.yaml: $(SOURCES) $(LAYER)/requirements.txt .tools/sam/.installed
	@echo "==> sam build"
	@.tools/sam/bin/python -m tools.build
