# Every target with a "##" comment shows up in `make help`.
SHELL := /bin/bash
GO ?= go

.PHONY: help test build fmt lint

help: ## Show this help
	@grep -hE '^[a-zA-Z_-]+:.*?## ' $(MAKEFILE_LIST) | sort | awk -F ':.*?## ' '{printf "  %-14s %s\n", $$1, $$2}'

build: ## Build the static binary into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/sidecar ./cmd/sidecar

test: ## Get what is missing and run every test
	$(GO) vet ./...
	$(GO) test -timeout 20m ./...

fmt: ## Format the code
	gofmt -w $$(git ls-files '*.go')

lint: ## Run the linters
	golangci-lint run ./...
