// Package lab builds a LAN without hardware and a real Kubernetes cluster on it, breaks them on request, and watches.
//
// A switch (a Linux bridge), a control plane host, nodes and clients are network namespaces; etcd, kube-apiserver,
// kube-controller-manager and one kube-proxy per node are the real programs. Only the kubelet is replaced: a small agent
// per node keeps the Node object Ready and serves the backends of the pods bound to it. So a client on the LAN resolves
// a service address by its kernel's own ARP or ND, and its packets reach a backend through kube-proxy's own rules.
//
// A test takes a lab with New, and it is gone when the test ends, however it ends:
//
//	l := lab.New(t, lab.Options{Nodes: 3, Clients: 1})
//	l.RunPod(ctx, "n1", "web-1", map[string]string{"app": "web"})
//	l.Unplug("n1")
//	owners, err := l.WhoHas("c1", netip.MustParseAddr("10.77.0.200"), time.Second)
//
// # Two grounds
//
// What is said above is the lab's own ground. With LANYARD_GROUND=kind, New attaches to the kind cluster of this machine
// (make kind-up) instead, and the same tests run where kubelets run pods. What a test calls stays the same:
//
//	                own                                  kind
//	switch          a bridge in a namespace              docker's bridge kind0
//	nodes           namespaces n1, n2, ...               containers lanyard-worker, lanyard-worker2, ...
//	clients         namespaces                           namespaces, plugged into kind0
//	kubelet         the agent                            the kubelet
//	pods            the agent's backends                 containers with the same backend
//	product         processes, with config/ applied      pods of charts/lanyard, one label of a node for each
//	kill -9         the lab starts it again, or not      the same: until Restart the kubelet is kept from it
//	metrics         on the host's loopback               on the node's address, or the pod's
//
// Each New finds the cluster cleared of what the test before it left, the product too; what a test ends with stays for a
// look, and only faults and clients go. A test that needs what the ground has not is skipped, by one list: lacks and unfit
// in ground.go. Tests name nodes by Node and Nodes, never by a name of their own.
//
// The code that both share is most of the package. Behind the interface ground are own*.go with the files that build
// namespaces and start programs, and kind*.go.
//
// # Hosts and addresses
//
// Hosts are named cp (the control plane), n1, n2, ... (nodes; see above), c1, c2, ... (clients) and switch. On the machine, host n1
// of the lab "lab" is the network namespace lab-n1, so `ip netns exec lab-n1 tcpdump` and the like work. Every lab uses
// the same addresses, since no two labs share a link; plan.go lists them.
//
// # What is left behind
//
// Nothing. Down removes all; if the owning process dies without it (Ctrl-C, panic, timeout, kill -9), a reaper process
// does the same; and what a kill -9 of the reaper left is swept by `lab down`. The record of what belongs to a lab is
// its folder below /run/lanyard-lab.
package lab
