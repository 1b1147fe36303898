# Two commands for a fresh machine: `make demo` and `make test`. Both install what they need into
# .venv by themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo demo-sabotage test test-fast test-durability lint fuzz deviations bench-etcd bench-failover bench-transfer bench-quiet bench-lag bench-snapshot bench-idle bench-sim sim sim-mutants nemesis lock install clean help

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(STAMP) ## create .venv and install muster with its tools

$(STAMP): requirements.lock pyproject.toml scripts/install
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/install
	@touch $(STAMP)

demo: $(STAMP) ## three daemons on loopback, shown from founding to quorum loss
	@$(BIN)/muster dev --tour

demo-sabotage: $(STAMP) ## break each step of the demo; passes only if each is named
	@$(BIN)/python scripts/demo_sabotage.py

test: $(STAMP) lint ## everything: lint, types, import contracts, all tests
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadgroup

test-fast: $(STAMP) ## tests without real processes
	@$(BIN)/python -m pytest -m "not integration" -n 2

test-durability: $(STAMP) ## nothing is claimed before it is synced (strace), no crash loses it (replay)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -s tests/integration/test_durability.py \
		tests/simulation/test_crash_states.py

lint: $(STAMP) ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .lint-imports.log || (cat .lint-imports.log; exit 1)
	@rm -f .lint-imports.log

deviations: $(STAMP) ## pysyncobj's deviations, stock beside ours: the table of docs/consistency.md
	@$(BIN)/python scripts/deviations.py

bench-idle: $(STAMP) ## CPU, memory, packets of an idle cluster; detection and failover times
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/bench_idle.py

bench-etcd: $(STAMP) ## durable puts of muster and etcd by turns: ROUNDS=5 SECONDS=3 CELLS="256/3 256/each"
	@$(BIN)/python scripts/bench_etcd.py --rounds $(or $(ROUNDS),5) --seconds $(or $(SECONDS),3) \
		$(if $(CELLS),--cells $(CELLS)) $(if $(AT),--at $(AT))

bench-failover: $(STAMP) ## SIGKILL of the leader to the next write, muster and etcd by turns: RUNS=30
	@$(BIN)/python scripts/bench_failover.py --runs $(or $(RUNS),30)

bench-transfer: $(STAMP) ## leadership handed over under load: time to the next write: RUNS=30
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/bench_transfer.py --runs $(or $(RUNS),30)

bench-quiet: $(STAMP) ## five idle daemons beside two busy loops a core: elections: FOR=10m
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/bench_quiet.py --for $(or $(FOR),10m)

bench-lag: $(STAMP) ## how late the daemons' loops are under puts: SECONDS=10
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/bench_lag.py --seconds $(or $(SECONDS),10)

bench-snapshot: $(STAMP) ## a large store: restart, a follower behind the log, stalls: KEYS=100000 BYTES=64 ROUNDS=3
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/bench_snapshot.py --keys $(or $(KEYS),100000) \
		--bytes $(or $(BYTES),64) --rounds $(or $(ROUNDS),3)

bench-sim: $(STAMP) ## how fast simulations run: virtual seconds in a second of CPU
	@$(BIN)/python scripts/bench_sim.py

sim: $(STAMP) ## drawn simulations: SEEDS=1000 START=1 WITHIN=seconds
	@$(BIN)/python scripts/sim.py --seeds $(or $(SEEDS),1000) --start $(or $(START),1) \
		--within $(or $(WITHIN),inf)

nemesis: $(STAMP) ## three to six real daemons under drawn faults (root): FOR=60s SEED=1 ONLY=clock
	@PYTHONPATH=tests $(BIN)/python -m nemesis --for $(or $(FOR),60s) $(if $(SEED),--seed $(SEED)) \
		$(if $(ONLY),--only "$(ONLY)")

sim-mutants: $(STAMP) ## plant each defect of tests/mutants and let the seeds look for it
	@$(BIN)/python scripts/sim_mutants.py

lock: $(STAMP) ## renew requirements.lock
	@sh scripts/lock

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis
