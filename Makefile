# Lanyard. A bare `make` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

TOOLS   := bin/tools
GO_SRC  := $(shell git ls-files -co --exclude-standard '*.go' 'go.mod' 'go.sum' 2>/dev/null)
PROGRAMS := controller speaker kubectl-lanyard
# The version that programs, images and labels tell.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/lanyard-lb/lanyard/internal/daemon.Version=$(VERSION)
REGISTRY ?= ghcr.io/lanyard-lb

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

##@ Use

.PHONY: demo
demo: needs lab-build build ## show the main job on a LAN of network namespaces (needs root; KEEP=1 leaves it up)
	@cd e2etest && go run ./cmd/demo $(if $(KEEP),-keep)

.PHONY: build
build: ## build the controller, the speaker and the kubectl plugin into bin/
	@CGO_ENABLED=0 go build -trimpath -ldflags="$(LDFLAGS)" -o bin/ $(PROGRAMS:%=./%)

.PHONY: image
image: ## build the images for amd64 and arm64 into bin/image/: OCI layouts, and tars for `docker load` (VERSION=v0.2.0)
	@for arch in amd64 arm64; do mkdir -p bin/image/programs/$$arch && \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags="$(LDFLAGS)" -o bin/image/programs/$$arch/ $(PROGRAMS:%=./%) || exit 1; done
	@cd tools && go run ./image -binaries ../bin/image/programs -out ../bin/image -registry $(REGISTRY) -version $(VERSION) \
	  -revision $$(git rev-parse HEAD) -created $$(git log -1 --format=%ct) -source https://github.com/lanyard-lb/lanyard \
	  -tar-arch $$(go env GOARCH) $(PROGRAMS)

KIND_LAB = cd e2etest && CGO_ENABLED=0 go build -trimpath -o ../bin/kind-lab ./cmd/kind && cd .. && bin/kind-lab

.PHONY: kind-up
kind-up: needs-kind $(TOOLS)/kind ## make a kind cluster with kubelets, or use the one there is (root; PROXY=iptables, NODE_IMAGE=kindest/node:v1.x)
	@$(KIND_LAB) up $(if $(PROXY),-proxy $(PROXY)) $(if $(NODE_IMAGE),-node-image $(NODE_IMAGE))

.PHONY: kind-down
kind-down: $(TOOLS)/kind ## remove the kind cluster, its network and what was changed of this machine for it
	@$(KIND_LAB) down

# The suites of behaviour that also run on kind, and what only kubelets show.
SUITES ?= suite layer2 kubelet

.PHONY: kind-images
kind-images: image ## build the images that the suites need on kind: the product's, and the backend of the tests
	@arch=$$(go env GOARCH) && (cd e2etest && CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o ../bin/image/programs/$$arch/ ./cmd/backend) && \
	  cd tools && go run ./image -binaries ../bin/image/programs -out ../bin/image -registry $(REGISTRY) -version $(VERSION) \
	  -arch $$arch -tar-arch $$arch backend

.PHONY: e2e-kind
e2e-kind: kind-up build kind-images $(TOOLS)/helm ## the suites on a kind cluster, with the chart (SUITES="suite layer2 allocation ..." RUN=pattern)
	@$(if $(value RUN),cd e2etest && { go test -list '$(value RUN)' $(SUITES:%=./%/...) | grep -q ^Test || { echo "no test matches RUN=" >&2; exit 1; }; },:)
	@cd e2etest && LANYARD_GROUND=kind go test -count=1 -timeout 60m -p 1 $(if $(value RUN),-run '$(value RUN)') $(SUITES:%=./%/...)

.PHONY: lab-build
lab-build: ## build the lab's control plane into bin/ (minutes the first time, then cached)
	@cd e2etest && go run ./cmd/lab build

##@ Check

.PHONY: test
test: needs test-unit test-lab ## run all tests with the race detector (lab and wire tests need root)

.PHONY: test-unit
test-unit: ## unit, property, fuzz-seed and veth tests; the largest simulations without the race detector
	go test -race -timeout 20m ./...
	go test -run TestLifeOfMany ./internal/placement
	go test -run TestClaimsDontSlowDetection ./internal/membership -members 100

.PHONY: test-lab
test-lab: lab-build build $(TOOLS)/promtool ## the suites against a real API server, real kube-proxies and real ARP and NDP
	@if [ "$$(id -u)" != 0 ]; then echo "LEFT OUT: the lab suites need root (network namespaces)"; else cd e2etest && go test -race -timeout 60m -p 1 ./...; fi

.PHONY: race-lab
race-lab: lab-build ## the lab suites with daemons that detect races (slow; their timing means nothing)
	@CGO_ENABLED=1 go build -race -o bin/race/ ./controller ./speaker
	@cd e2etest && LANYARD_BIN=$(CURDIR)/bin/race go test -timeout 60m -p 1 ./suite/... ./allocation/...

.PHONY: bench
bench: lab-build build ## the figures of speed and cost, ours beside limits (root; RUNS=n FIGURES=allocation,... SERVICES=2000,10000 IMPLEMENTATION=lanyard,other.yaml JSON=file)
	@cd e2etest && go build -o ../bin/bench ./cmd/bench
	@bin/bench $(if $(RUNS),-runs $(RUNS)) $(if $(FIGURES),-figures $(FIGURES)) $(if $(SERVICES),-services $(SERVICES)) \
	  $(if $(IMPLEMENTATION),-implementations $(IMPLEMENTATION)) $(if $(JSON),-json $(JSON)) $(if $(PROFILES),-profiles $(PROFILES))

.PHONY: bench-failover
bench-failover: lab-build build ## how long clients wait when a node or speaker goes: unplugged, killed, stopped (root; N=20 trials each, JSON=file, SPEAKER=flags)
	@cd e2etest && go run ./cmd/benchfailover -n $(or $(N),20) -speaker '$(SPEAKER)' $(if $(JSON),-json $(abspath $(JSON)))

.PHONY: soak
soak: lab-build build ## an hour of random life in the lab, and all that must hold checked throughout (root; FOR=5m, SEED=n repeats a life)
	@cd e2etest && go run ./cmd/soak -for $(or $(FOR),1h) $(if $(SEED),-seed $(SEED))

.PHONY: upstream-build
upstream-build: ## build Kubernetes' own tests of load balancers into bin/upstream (minutes the first time)
	@cd e2etest/upstream && export CGO_ENABLED=0 && \
	  go build -trimpath -ldflags='-s -w' -o ../../bin/upstream/agnhost k8s.io/kubernetes/test/images/agnhost && \
	  go test -c -trimpath -ldflags='-s -w' -o ../../bin/upstream/e2e.test .

.PHONY: e2e-upstream
e2e-upstream: needs-upstream upstream-build kind-up image $(TOOLS)/helm ## run them on the kind cluster, with the chart (root; ONLY=pattern, ALL=1 also what does not apply)
	@bin/kind-lab load $(PROGRAMS:%=bin/image/%.tar)
	@hack/agnhost-image.sh "$$(bin/upstream/e2e.test -agnhost)" bin/upstream/agnhost
	@$(TOOLS)/helm --kubeconfig bin/kind/kubeconfig upgrade --install lanyard charts/lanyard --namespace lanyard-system \
	  --create-namespace --reset-values --set image.tag=$(VERSION) --wait >/dev/null
	@cd e2etest && go run ./cmd/upstream $(if $(ONLY),-only '$(ONLY)') $(if $(ALL),-all)

.PHONY: verify
verify: verify-generated lint verify-chart verify-monitoring ## everything that must hold besides the tests

.PHONY: verify-generated
verify-generated: generate ## check that generated files are current
	@git diff --exit-code --stat -- api config/crd charts && test -z "$$(git ls-files -o --exclude-standard -- charts)" || { echo "generated files were not current: commit what \`make generate\` wrote"; exit 1; }

.PHONY: verify-chart
verify-chart: $(addprefix $(TOOLS)/,chart helm helm3 kustomize kubeconform) ## lint and render the chart with many values, check it against schemas and config/ (no cluster)
	@cd tools && go test ./...
	@$(TOOLS)/chart verify

.PHONY: verify-monitoring
verify-monitoring: $(TOOLS)/promtool ## test the alert rules on recorded and made-up metrics, and the dashboard's queries (no cluster)
	@go test -count=1 -run 'TestMetrics|TestQueries|TestAlerts|TestReasons' ./internal
	@cd e2etest && go test -count=1 -run 'TestRules|TestEveryAlertFires|TestDashboard' ./monitoring

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## vet and lint all modules
	@$(TOOLS)/golangci-lint run --allow-parallel-runners ./...
	@cd e2etest && ../$(TOOLS)/golangci-lint run --allow-parallel-runners ./...
	@cd tools && ../$(TOOLS)/golangci-lint run --allow-parallel-runners ./...

##@ Develop

.PHONY: generate
generate: $(TOOLS)/controller-gen $(TOOLS)/chart ## write deepcopy functions, CRDs and the chart's copies anew
	@$(TOOLS)/controller-gen object paths=./api/...
	@$(TOOLS)/controller-gen crd:crdVersions=v1 paths=./api/... output:crd:artifacts:config=config/crd
	@$(TOOLS)/chart generate

.PHONY: fmt
fmt: ## format the code
	@gofmt -w $$(git ls-files -co --exclude-standard '*.go')

.PHONY: needs
needs: ## check that what the lab needs is installed; as root, install it
	@./hack/needs.sh

.PHONY: needs-kind
needs-kind: ## check, or install, what a kind cluster needs: docker, and debootstrap for our own node image
	@./hack/needs.sh docker $(if $(NODE_IMAGE),,debootstrap)

.PHONY: needs-upstream
needs-upstream:
	@./hack/needs.sh agnhost

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

$(TOOLS)/chart: $(wildcard tools/chart/*.go) tools/go.mod tools/go.sum
	@cd tools && go build -o ../$@ ./chart

$(TOOLS)/helm3: tools/go.mod tools/go.sum
	@echo "building helm 3"
	@cd tools && go build -o ../$@ helm.sh/helm/v3/cmd/helm

# A module of its own: what promtool needs is as much as all other tools do. Its service discovery is left out.
$(TOOLS)/promtool: tools/promtool/go.mod tools/promtool/go.sum
	@echo "building promtool"
	@cd tools/promtool && CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -tags remove_all_sd -o ../../$@ github.com/prometheus/prometheus/cmd/promtool

$(TOOLS)/%: tools/go.mod tools/go.sum
	@echo "building $*"
	@cd tools && go build -o ../$@ $$(go list -f '{{.ImportPath}}' tool | grep -v helm/v3 | grep -E '/$*(/v[0-9]+)?$$')
