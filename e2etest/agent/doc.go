// Package agent stands in for the kubelet on a node of the lab. It registers the Node and keeps it Ready with a Lease, and
// it runs the pods that are bound to the node: each is a network namespace with an address of its own, in which this
// process serves HTTP and echoes UDP. There are no containers; whatever a pod's spec says, it gets this backend.
package agent
