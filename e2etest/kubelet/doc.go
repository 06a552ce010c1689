// Package kubelet tests what only a cluster with kubelets shows: the installation as the README has it, upgrades under load, nodes
// that are drained and die, pods that move, what is left after an uninstall, what pods may do. It runs on a kind cluster
// (`make e2e-kind SUITES=kubelet`) and is skipped elsewhere.
//
// The chart is installed with its own defaults, so speakers run on the control plane's node, too, and there are two controllers.
package kubelet
