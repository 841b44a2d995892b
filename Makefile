# What can be done here. Each target installs what it needs when run as root on
# Debian, and otherwise ends with a sentence that names what is missing.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

GO      ?= go
BIN     := bin/hawser
VERSION ?= $(shell scripts/version.sh)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Pinned; the linters are no dependency of the product.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

# Packages whose point is many goroutines at once.
RACE := ./client/... ./internal/gateway/... ./internal/guard/... ./internal/run/... ./internal/rest/... ./internal/vault/... \
        ./internal/signin/... ./internal/easyauth/... ./internal/authority/... ./internal/directory/...

PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
# A count: where a time ends while the seeds are still read, Go calls it a failure.
FUZZTIME  ?= 20000x

.PHONY: help build demo tutorial behalf test unit race conformance bench bench-save cross lint fuzz-brief clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | sort | column -t -s $$'\t'

build: ## bin/hawser, static
	@command -v $(GO) >/dev/null || { echo "Missing: install Go 1.26 or newer." >&2; exit 1; }
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/hawser

demo: build ## a plane, real PostgreSQL, MariaDB and Redis, and apps without a secret, once through
	@scripts/need.sh postgres mariadb redis
	@scripts/demo.sh

behalf: build ## two people, two apps behind sign-in, and a database that shows each of them other rows, once through
	@scripts/need.sh postgres psql curl node $(if $(filter 0,$(shell id -u)),chromium)
	@scripts/behalf.sh

tutorial: build ## the az commands of Microsoft's tutorials, in order, against a plane (as root: it needs port 5432 and the hosts file)
	@scripts/need.sh postgres psql curl az python
	@scripts/tutorial.sh

test: build unit conformance race ## everything that is judged

unit: ## the tests of the main module, on SQLite and PostgreSQL
	@scripts/need.sh postgres psql curl az node python mariadb redis
	$(GO) vet ./...
	$(GO) test -timeout 15m ./...

race: ## the concurrent packages under the race detector
	@scripts/need.sh postgres mariadb redis race
	$(GO) test -race -short -timeout 15m $(RACE)

conformance: build ## Microsoft's clients and PostgreSQL's own against the binary
	@scripts/need.sh postgres psql curl az node python chromium mariadb redis freetds
	for d in conformance/node conformance/browser examples/behalf/web examples/mysql-node examples/sql-node; do (cd $$d && npm ci --no-audit --no-fund --loglevel=error); done
	@GO=$(GO) scripts/conformance.sh

bench: build ## hot paths beside the machine's limits and peers; BENCH=part for one (token secret write pg mysql redis tds start rbac people graph front growth)
	@scripts/need.sh postgres psql mariadb redis haproxy sysbench
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)-floor ./bench/floor
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)-bench ./bench
	@BENCH_FLOOR=$(BIN)-floor $(BIN)-bench $(BENCH)

bench-save: ## bench/BASELINE.md from the latest runs
	@$(GO) run ./bench save

cross: ## compile what is shipped for every platform
	@for p in $(PLATFORMS); do echo "$$p"; CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -o /dev/null ./cmd/hawser ./client ./hawsertest; done

lint: ## gofmt, vet, staticcheck, govulncheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change: $$out" >&2; exit 1; }
	@for m in . conformance examples/go examples/sql-go examples/behalf/api; do (cd $$m && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...); done
	@if out=$$($(GO) run $(GOVULNCHECK) ./... 2>&1); then echo "$$out"; \
	elif grep -qE 'vuln.go.dev|fetching vulnerabilities|no such host' <<<"$$out"; then echo "govulncheck: its database cannot be reached from here; not checked"; \
	else echo "$$out" >&2; exit 1; fi

fuzz-brief: ## each fuzz target for FUZZTIME
	@GO=$(GO) FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

clean: ## remove what was built
	rm -rf bin conformance/node/node_modules conformance/browser/node_modules examples/node/node_modules examples/behalf/web/node_modules \
	  examples/mysql-node/node_modules examples/sql-node/node_modules
