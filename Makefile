# make test is what CI runs. Everything else is a part of it, but bench.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

GO          ?= go
STATICCHECK := v0.7.0
GOTESTSUM   := v1.13.0

# A test that failed is run again, twice at most; those that needed it are
# listed at the end. Many failures at once are no accident: then it is red at once.
RUN_TESTS := $(GO) run gotest.tools/gotestsum@$(GOTESTSUM) --rerun-fails=2 --rerun-fails-max-failures=20 --format=pkgname-and-test-fails

.PHONY: test setup check build unit fuzz windows integration bench image clean

test: setup check build unit fuzz windows integration

setup:
	integration/setup.sh

check:
	@files=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs -r ls -d 2>/dev/null | xargs -r gofmt -l); \
	if [ -n "$$files" ]; then echo "not gofmt'ed:"; echo "$$files"; exit 1; fi
	@for os in linux windows darwin; do echo "vet $$os"; GOOS=$$os CGO_ENABLED=0 $(GO) vet ./...; done
	@tools=$(CURDIR)/.tools/$(STATICCHECK); \
	[ -x $$tools/staticcheck ] || GOBIN=$$tools $(GO) install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK); \
	for os in linux windows; do echo "staticcheck $$os"; GOOS=$$os CGO_ENABLED=0 $$tools/staticcheck ./...; done
	$(GO) mod tidy -diff

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/ ./cmd/...

# The plane of other systems is tested on Linux too; and between fork and exec
# the memory is shared only without the race detector.
unit:
	$(RUN_TESTS) --packages="$$($(GO) list ./... | grep -vE '/integration(/windows)?$$' | tr '\n' ' ')" -- -race -shuffle=on -timeout=10m
	$(RUN_TESTS) --packages=./listener/proxy -- -race -shuffle=on -timeout=10m -tags goroutines
	$(RUN_TESTS) --packages=./upgrader/launch -- -shuffle=on -timeout=10m

# Windows programs under wine, in a prefix that the tests make. Without wine
# and mingw they skip.
windows:
	UPGRADER_TEST_WINE=1 $(RUN_TESTS) --packages=./integration/windows -- -timeout=35m

# Hostile input for the HTTP API, the control socket and the configuration file.
fuzz:
	GO=$(GO) integration/fuzz.sh

# Whole binaries under load: without the race detector, which would be what is
# measured; INTEGRATION_RACE=1 puts it into the binaries under test.
integration:
	$(RUN_TESTS) --packages=./integration -- -shuffle=on -timeout=45m

bench:
	$(GO) run ./integration/bench -out docs/bench.md

image: build
	docker build --target prebuilt --tag upgrader .

clean:
	rm -rf bin .tools
