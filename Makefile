# Every target with a "##" comment shows up in `make help`.
SHELL := /bin/bash
GO ?= go
GOLANGCI_VERSION := v2.15.0
# Tools live outside the clone, by version, so that a fresh clone finds them.
TOOLS := $(shell $(GO) env GOCACHE)/patchbay-tools/$(GOLANGCI_VERSION)

.PHONY: help setup build test race lint fmt bench verify check

help: ## Show this help
	@grep -hE '^[a-zA-Z_-]+:.*?## ' $(MAKEFILE_LIST) | sort | awk -F ':.*?## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: ## Get the servers that the tests need, where they are missing
	$(GO) run ./internal/testenv/setup

build: ## Build the static binary into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/sidecar ./cmd/sidecar

test: setup ## Get what is missing and run every test
	$(GO) vet ./...
	$(GO) test -timeout 30m ./...

race: setup ## Run every test under the race detector
	$(GO) test -race -timeout 60m ./...

fmt: ## Format the code
	gofmt -w $$(git ls-files '*.go')

lint: $(TOOLS)/golangci-lint ## Run the linters
	$(TOOLS)/golangci-lint run ./...

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

bench: setup ## Measure against the limit in the same run; writes bench/RESULTS.md
	$(GO) run ./bench

verify: ## Fail where formatting, go.mod or golden files are not as generated
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run: make fmt"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) test ./providers/... -run Golden -count=1

check: verify lint test ## What to run before a push
