.POSIX:
# make help says what there is. Plain make and sh; the work is done by the go command.

# How long each fuzz target runs in make test and make fuzz.
FUZZTIME = 20s

# How long make soak goes on over each transport.
SOAKTIME = 10m

# How many mutants make mutants tries, and which: another seed draws others.
MUTANTS = 300
MUTANTSEED = 1

# The world that make simulate runs; 0: one fresh world after another.
SEED = 0

# The newest release; it runs beside the module and adds nothing to go.mod.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.NOTPARALLEL:
.PHONY: help native build demo test fuzz bench bench-peers soak leaks mutants clean \
	simulate simulate-proof test-simulation \
	need-go need-cc need-pip need-node need-nginx check-format check-vet check-static check-modules check-nocgo \
	test-race test-bench test-peers test-websocket test-interop interop

help:
	@echo 'make demo    a hub and spokes over iroh on this machine, with real data'
	@echo 'make test    all checks and tests; what they need must be there'
	@echo 'make build   bin/irohub, the command'
	@echo 'make native  fetch the native library of iroh into .native'
	@echo 'make interop install what the spokes in Python and JavaScript need'
	@echo 'make fuzz    run every fuzz target for FUZZTIME ($(FUZZTIME))'
	@echo 'make bench   run all benchmarks'
	@echo 'make bench-peers  compare with other systems, and write docs/performance.md'
	@echo 'make soak    check every delivery for SOAKTIME ($(SOAKTIME)) over each transport'
	@echo 'make simulate  run hubs and spokes in a made-up world until stopped; with SEED=n, that seed again, with its trace'
	@echo 'make simulate-proof  see that the simulation finds faults that are put back'
	@echo 'make leaks   run the tests of iroh with the address and leak sanitizers'
	@echo 'make mutants break the root package and its parts in MUTANTS ($(MUTANTS)) places, one at a time, and list what no test notices'
	@echo 'make clean   remove what the others made'

# What is needed. Each says what is missing.

need-go:
	@command -v go >/dev/null || { \
		echo 'missing: go. Install Go 1.26 or later, and have it in PATH.' >&2; exit 1; }

need-cc: need-go
	@cc=$$(go env CC); echo '#include <dlfcn.h>' | $$cc -E - >/dev/null 2>&1 || { \
		echo "missing: a C compiler with its headers. '$$cc' does not work; install gcc or clang, or set CC." >&2; exit 1; }
	@test "$$(go env CGO_ENABLED)" = 1 || { \
		echo 'missing: cgo. CGO_ENABLED is 0 here; set it to 1.' >&2; exit 1; }

need-pip:
	@python3 -m pip --version >/dev/null 2>&1 || { \
		echo 'missing: python3 with pip, which downloads the native library. Install both, and have python3 in PATH.' >&2; exit 1; }

need-node:
	@command -v npm >/dev/null && node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' || { \
		echo 'missing: Node.js 20 or later with npm, for the tests of the JavaScript spoke. Install both, and have them in PATH.' >&2; exit 1; }

need-nginx:
	@(PATH="$$PATH:/usr/sbin"; command -v nginx) >/dev/null || { \
		echo 'missing: nginx, which the tests of WebSocket run as a reverse proxy. Install it; on Debian it is in the package nginx-light.' >&2; exit 1; }

# What there is to make.

# pip is needed only where the library is not there yet.
native: need-go
	@ls .native/*/libiroh_ffi.* >/dev/null 2>&1 || $(MAKE) need-pip
	go run ./iroh/fetch

# The command is a module of its own, so that it may have requirements and the library none.
build: need-cc
	go build -C cmd/irohub -o ../../bin/ .

interop: need-pip need-node
	$(MAKE) -C clients/python venv
	$(MAKE) -C clients/js install

demo: native build
	go build -o bin/ ./internal/demo
	@exec bin/demo

clean:
	rm -rf bin .native

# The tests. CI=true makes a failure of what a test would otherwise skip for want of.

test: native need-cc need-nginx interop check-format check-vet check-static check-modules check-nocgo \
	test-race test-bench test-peers test-websocket test-interop test-simulation leaks fuzz
	@echo 'All tests have passed.'

check-format:
	@files=$$(gofmt -l .) && test -z "$$files" || { echo "not as gofmt has it: $$files" >&2; exit 1; }

check-vet:
	go vet ./...
	go vet -C cmd/irohub ./...
	go vet -C websocket ./...

check-static:
	go run $(STATICCHECK) ./...
	go run -C cmd/irohub $(STATICCHECK) ./...
	go run -C websocket $(STATICCHECK) ./...

# An application that vendors irohub gets nothing else.
check-modules:
	@modules=$$(go list -m all) && test "$$modules" = irohub || { \
		echo "the module has requirements: $$modules" >&2; exit 1; }
	go -C cmd/irohub mod tidy -diff
	go -C websocket mod tidy -diff

# Without cgo, all of it still builds, wherever Go does, and TLS is the transport. So it is
# where an int has 32 bits, but for the simulation.
check-nocgo:
	CGO_ENABLED=0 go vet ./...
	CGO_ENABLED=0 go test -count=1 ./key ./tlsnet
	GOARCH=386 CGO_ENABLED=0 go vet $$(go list ./... | grep -v /internal/simulation)
	@case "$$(go env GOHOSTOS)/$$(go env GOHOSTARCH)" in linux/amd64) \
		echo 'GOARCH=386 go test . ./internal/system ./internal/jsonscan ./internal/framing ./key ./tlsnet'; \
		GOARCH=386 CGO_ENABLED=0 go test -count=1 . ./internal/system ./internal/jsonscan ./internal/framing ./key ./tlsnet;; \
		*) echo 'the tests on 32 bits are left out: they need linux/amd64';; esac
	@for module in cmd/irohub websocket; do \
		echo "go vet -C $$module ./..., also with GOARCH=386"; \
		CGO_ENABLED=0 go vet -C $$module ./... && \
		GOARCH=386 CGO_ENABLED=0 go vet -C $$module ./... || exit 1; \
	done
	@for platform in windows/amd64 darwin/amd64 linux/arm64; do \
		echo "GOOS=$${platform%/*} GOARCH=$${platform#*/} go build ./..., websocket and cmd/irohub"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 go build ./... && \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 go build -C websocket ./... && \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 go build -C cmd/irohub -o /dev/null . || exit 1; \
	done
	GOOS=plan9 CGO_ENABLED=0 go build . ./tlsnet
	GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 go build . ./tlsnet

# Among them, an application that vendors irohub (internal/vendortest).
test-race:
	CI=true go test -race -count=1 ./...
	CI=true go test -C cmd/irohub -race -count=1 ./...

# The spokes in other languages by themselves; with those in Go, they are in test-race. Here
# the test that waits for iroh to give up a dead hub is not left out.
test-interop: interop build
	IROHUB_SLOW=1 $(MAKE) -C clients/python check test
	$(MAKE) -C clients/js check test

# The comparison with other systems is a module of its own, since it requires them.
test-peers: native need-cc
	cd bench && go vet ./... && go run $(STATICCHECK) ./... && CI=true go test -race -count=1 ./...

# The transport over WebSocket, behind nginx too; then its ledger of memory.
test-websocket: need-cc need-nginx
	CI=true go test -C websocket -race -count=1 ./...
	CI=true go test -C websocket -run '^$$' -bench Ledger -benchtime 1x .

# Each benchmark once, to see that it runs.
test-bench:
	CI=true go test -run '^$$' -bench . -benchtime 1x . ./internal/system ./internal/jsonscan ./internal/framing ./internal/siege

# Up to Go 1.26, a race in the go command's end of -fuzztime can fail a target with this
# one line and no input (golang/go#75804): that is no finding. Minimizing is kept short, as
# it would otherwise use up most of the time.
fuzz: need-go
	@for dir in . cmd/irohub; do for package in $$(go list -C $$dir ./...); do \
		for target in $$(go test -C $$dir -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "fuzzing $$package $$target for $(FUZZTIME)"; \
			out=$$(go test -C $$dir -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$package 2>&1) || \
				{ echo "$$out" | grep -q '^    context deadline exceeded$$' && ! echo "$$out" | grep -q 'Failing input'; } || \
				{ echo "$$out"; exit 1; }; \
			echo "$$out" | grep 'execs:' | tail -n 1; \
		done; \
	done; done

bench: native need-cc
	go test -run '^$$' -bench . -benchmem ./...

bench-peers: native need-cc
	cd bench && go run . -o ../docs/performance.md

# Each event of many publishers is checked at many spokes that come and go; then connections
# alone, and what they leave behind; then a minute of a flood, and of churn.
soak: native need-cc
	go run -race ./internal/soak -for $(SOAKTIME) -transport iroh
	go run -race ./internal/soak -for $(SOAKTIME) -transport tls
	go run ./internal/soak -connects 10000 -transport iroh
	go run ./internal/soak -connects 10000 -transport tls
	CI=true go test -count=1 -v -run Flood ./internal/siege -siege 1m

# A hub, spokes and those who mean harm, in memory and made-up time, step for step the same for
# the same seed (internal/simulation). First the seeds that once failed, then fresh ones.

simulate: need-go need-node
	go run ./internal/simulation/run -seed $(SEED)

test-simulation: need-go need-node
	go run ./internal/simulation/run -for 1m

# Each fault that is put back is to be found within a minute of two processors (CPU time).
simulate-proof: need-go need-node
	go test -count=1 -v -timeout 0 -run PutBack ./internal/simulation -putback

# What the glue allocates and does not free.
leaks: native need-cc
	CI=true go test -asan -short -count=1 ./iroh

# Lines whose breaking no test notices. What a change cannot make different is listed, with
# the reason, in internal/mutants/equivalent.txt.
mutants: need-go
	go run ./internal/mutants -n $(MUTANTS) -seed $(MUTANTSEED) -factor 5
