// Package kind makes a kind cluster with kubelets on this machine and hands out what tests need of it: its nodes, their
// network namespaces, the processes of pods, and ways to take a node away and give it back.
//
// Up needs no image registry: without a stock node image it makes one, of Debian packages and of Kubernetes compiled
// from its Go module. The cluster's docker network is fenced: what does not stay in it is rejected.
package kind
