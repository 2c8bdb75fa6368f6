# Every target with a "##" comment shows up in `make help`.
SHELL := /bin/bash
GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Tools live outside the clone, in a folder per version: a fresh clone finds
# them, and a new version never meets an old binary.
GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(shell $(GO) env GOCACHE)/patchbay-tools/golangci-lint-$(GOLANGCI_VERSION)

# Where goroutines share memory. The others run under the race detector by
# `make race`, which takes several times as long.
RACY := ./resolver ./httpapi ./tenant ./connector/sqlite ./vault/sealed
# Longer than any package takes on a new machine with two cores: a hang ends with
# the stacks of all goroutines instead of with the machine.
TEST := $(GO) test -timeout 20m

.PHONY: help setup build test test-fast test-race race lint lint-api fmt golden soak second-issuer bench verify check

help: ## Show this help
	@grep -hE '^[a-zA-Z_-]+:.*?## ' $(MAKEFILE_LIST) | sort | awk -F ':.*?## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: ## Get the servers that the tests need, where they are missing
	$(GO) run ./internal/testenv/setup

build: ## Build the static binary into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X github.com/patchbay-dev/patchbay/cmd/sidecar/command.version=$(VERSION)" -o bin/sidecar ./cmd/sidecar

test: setup ## Get what is missing, vet, run every test; the racy packages under the race detector too
	$(GO) vet ./...
	$(TEST) ./...
	@$(MAKE) --no-print-directory test-race

# The detector needs a C compiler, which a newcomer's machine may not have.
test-race:
	@if [ "$$($(GO) env CGO_ENABLED)" = 1 ]; then set -x; $(TEST) -race $(RACY); \
	else echo "no C compiler: the race detector is left out"; fi

test-fast: ## Run the tests on whatever servers are here; unchanged packages come from Go's cache
	$(TEST) ./...

race: setup ## Run every test under the race detector
	$(TEST) -race ./...

fmt: ## Format the code
	gofmt -w $$(git ls-files '*.go')

lint: $(GOLANGCI) ## Run the linters
	$(GOLANGCI) run ./...

$(GOLANGCI):
	@mkdir -p $(@D)
	dir=$$(mktemp -d) && GOBIN=$$dir $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION) \
		&& mv $$dir/golangci-lint $@ && rmdir $$dir

# As second-issuer: node is not among what `make setup` brings. The paths that one
# rule warns of are fixed: types/{kind} comes before {id}.
REDOCLY := $(shell $(GO) env GOCACHE)/patchbay-tools/redocly-2.77.0

lint-api: ## Hold the OpenAPI document against an independent linter (needs node and npm)
	npm install --no-audit --no-fund --prefix $(REDOCLY) @redocly/cli@2.77.0
	$(GO) run ./cmd/sidecar openapi > $(REDOCLY)/openapi.json
	$(REDOCLY)/node_modules/.bin/redocly lint --extends=recommended --skip-rule=no-ambiguous-paths $(REDOCLY)/openapi.json

golden: ## Rewrite the golden files from the code
	$(GO) test ./providers/builtin -run Golden -count=1 -update

soak: setup ## Watch fleets and outages for 20 token lifetimes of 5 s: about 5 minutes
	PATCHBAY_SOAK=1 $(TEST) -count=1 -v -run 'TestAFleetRefreshesOnce|TestTheIssuerAway' ./providers/oauth

# Node is not among what `make setup` brings: the other tests don't need it.
SECOND_ISSUER := $(shell $(GO) env GOCACHE)/patchbay-tools/oidc-provider-8.8.1

second-issuer: ## Run the OAuth2 tests against npm's oidc-provider (needs node and npm)
	npm install --no-audit --no-fund --prefix $(SECOND_ISSUER) oidc-provider@8.8.1
	cp providers/oauth/testdata/second_issuer.mjs $(SECOND_ISSUER)/
	PATCHBAY_SECOND_ISSUER=$(SECOND_ISSUER)/second_issuer.mjs $(TEST) -count=1 -tags secondissuer -run TestSecondIssuer ./providers/oauth

bench: setup ## Measure against the limit in the same run, and print it
	$(GO) run ./bench

# Golden files are compared by their own test, which also says how they differ.
verify: ## Fail where formatting, go.mod or golden files are not as generated
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "$$unformatted"; echo "run: make fmt"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) -C examples/gokind mod tidy -diff
	$(GO) mod verify
	$(GO) test ./providers/builtin -run Golden -count=1

check: verify lint test ## What to run before a push
