// Package upstream is a test binary with Kubernetes' own e2e tests of Services and load balancers, taken unchanged from
// k8s.io/kubernetes. `make e2e-upstream` builds it and runs those that ../cmd/upstream lists.
//
// It is a module of its own so that k8s.io/kubernetes and its replace directives touch nothing else. It requires the
// versions that ../controlplane requires: what both use is then compiled once.
package upstream
