// Package e2etest is the end-to-end half of Lanyard: a module of its own, so that what the tests need never enters the
// product's go.mod.
//
//   - lab builds a LAN of network namespaces with a real Kubernetes control plane in it, breaks it on request, and looks
//     at it the way a client on the LAN does;
//   - cmd/lab is the same for people: lab up, lab status, lab exec HOST CMD, lab down;
//   - the same lab attaches to a kind cluster, with kubelets, containers and the chart, so that the suites run there as well;
//   - backend is what the pods of tests serve, on either ground;
//   - agent is the small stand-in for a kubelet that runs on each node of the lab;
//   - netspace holds the few operations on network namespaces that the others share;
//   - controlplane, a nested module, compiles etcd, kube-apiserver, kube-controller-manager, kube-proxy and kubectl into
//     one file.
//
// All of it needs Linux and root. Nothing in it touches the machine's own interfaces, routes or firewall: a lab lives
// wholly in namespaces that it made, and none of those has a link to the outside.
package e2etest
