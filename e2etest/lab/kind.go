package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// What the cluster of kind and its network are called. The network has the subnets of segment 0 of the address plan, so
// clients and pools have the same addresses there as in the lab's own namespaces; nodes have those that docker gives them.
const (
	kindCluster = "lanyard"
	kindNetwork = "kind"
	kindBridge  = "kind0"

	kindPrefix = "kind" // begins the names of the clients' namespaces and ports
	kindState  = "/run/lanyard-lab-kind"
)

// onKind is the ground that a kind cluster gives. The nodes' hosts are the namespaces of its containers, the switch is
// docker's bridge in the machine's own namespace, and clients are namespaces of ours that are plugged into it. What belongs
// to the lab alone there, one lab at a time: the clients, their ports, and one nftables table for frames on the bridge.
type onKind struct {
	*Lab
	unlock func()
	found  atomic.Pointer[[]container] // see containers

	mu       sync.Mutex
	installs release
}

// newKind waits for its turn: a kind cluster holds one lab at a time.
func newKind(l *Lab) (*onKind, error) {
	if err := errors.Join(NeedRoot(), needTool("nft", "nftables"), needTool("docker", "docker.io"), needTool("ip", "iproute2"),
		needBinary(l.opts.binDir, "controlplane")); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(kindState, "log"), 0o755); err != nil {
		return nil, fmt.Errorf("make %s: %w", kindState, err)
	}
	unlock, err := lockFile(filepath.Join(kindState, ".lock"))
	if err != nil {
		return nil, err
	}
	l.Prefix, l.stateDir = kindPrefix, kindState
	l.clientNames = names(l.opts.Clients, clientName)
	return &onKind{Lab: l, unlock: unlock}, nil
}

// up attaches to the cluster and gives it back its health, whatever a test before left there; the product is gone then.
func (k *onKind) up(ctx context.Context) error {
	begun := time.Now()
	step := func(what string) {
		fmt.Fprintf(k.opts.Out, "%5.1fs  %s\n", time.Since(begun).Seconds(), what)
	}
	if err := k.find(ctx); err != nil {
		return err
	}
	machine, err := netspace.OpenHere("machine")
	if err != nil {
		return err
	}
	k.addHost(&Host{Namespace: machine, Hostname: switchHost, Role: "switch", lab: k.Lab})
	step("mending what an earlier lab may have left")
	if err := k.mend(ctx); err != nil {
		return err
	}
	if err := k.attach(ctx); err != nil {
		return err
	}
	step("removing the product, loading images")
	group, clearing := errgroup.WithContext(ctx)
	group.Go(func() error { return k.clear(clearing) })
	group.Go(func() error { return k.loadImages(clearing) })
	if err := group.Wait(); err != nil {
		return err
	}
	for _, c := range k.containers() {
		if err := k.WaitNodeReady(ctx, c.Name, true); err != nil {
			return err
		}
	}
	step("ready")
	return nil
}

// attach makes the hosts: the control plane's, those of the workers that the lab uses, and the clients.
func (k *onKind) attach(ctx context.Context) error {
	for _, c := range k.containers() {
		name, role := c.Name, NodeRole
		if c.isControlPlane() {
			name, role = controlPlane, ControlPlaneRole
		} else if len(k.nodes) == k.opts.Nodes {
			continue
		}
		if err := k.attachNode(c, name, role); err != nil {
			return err
		}
		if role == NodeRole {
			k.nodes = append(k.nodes, name)
		}
	}
	if err := k.writeAdmin(ctx); err != nil {
		return err
	}
	for i, name := range k.clientNames {
		if err := k.addClient(ctx, name, firstClientNumber+i+1); err != nil {
			return err
		}
	}
	return k.enlistKubernetes()
}

// attachNode makes the host of a running container.
func (k *onKind) attachNode(c container, name string, role Role) error {
	ns, err := netspace.OpenProcess(c.Name, c.State.Pid)
	if err != nil {
		return err
	}
	h := &Host{Namespace: ns, Hostname: name, Role: role, lab: k.Lab, addrs: [2]netip.Addr{c.network().IPAddress, c.network().GlobalIPv6Address}}
	link, err := ns.Netlink().LinkByName("eth0")
	if err != nil {
		return errors.Join(fmt.Errorf("find eth0 of %s: %w", c.Name, err), ns.Close())
	}
	port, err := k.Host(switchHost).Netlink().LinkByIndex(link.Attrs().ParentIndex)
	if err != nil {
		return errors.Join(fmt.Errorf("find the port of %s on %s: %w", c.Name, kindBridge, err), ns.Close())
	}
	h.nics = []*NIC{{Name: "eth0", Port: port.Attrs().Name, host: h}}
	k.addHost(h)
	return nil
}

// Reattach finds a node of a kind cluster again that has been stopped and started: its container has new namespaces.
func (l *Lab) Reattach(ctx context.Context, node string) error {
	k, is := l.ground.(*onKind)
	if !is {
		return fmt.Errorf("reattach %s: the lab's own hosts never go", node)
	}
	if err := k.find(ctx); err != nil {
		return err
	}
	before := l.Host(node)
	if err := k.attachNode(k.containerOf(node), node, before.Role); err != nil {
		return err
	}
	return before.Close()
}

// addClient makes a client and plugs it into the network. It has no route to anywhere else.
func (k *onKind) addClient(ctx context.Context, name string, number int) error {
	h, err := k.newHost(ctx, name, ClientRole, number)
	if err != nil {
		return err
	}
	nic, err := h.AddNIC(0, NICOptions{})
	if err != nil {
		return err
	}
	// The port is no host: no link-local address, no reports.
	return k.Host(switchHost).Sysctl("ipv6/conf/"+nic.Port+"/disable_ipv6", "1")
}

// writeAdmin writes the administrator's kubeconfig that works from every host and from the machine: the control plane goes
// by its address.
func (k *onKind) writeAdmin(ctx context.Context) error {
	raw, err := k.inContainer(ctx, k.controlPlane(), "cat", "/etc/kubernetes/admin.conf")
	if err != nil {
		return err
	}
	config, err := clientcmd.Load([]byte(raw))
	if err != nil {
		return fmt.Errorf("read the administrator's kubeconfig: %w", err)
	}
	for _, c := range config.Clusters {
		c.Server = fmt.Sprintf("https://%s:6443", k.Host(controlPlane).Addr4())
		k.cluster = c
	}
	if err := clientcmd.WriteToFile(*config, k.Kubeconfig()); err != nil {
		return fmt.Errorf("write the administrator's kubeconfig: %w", err)
	}
	return nil
}

// down ends the faults and takes the clients away. The product stays, to be looked at; the next lab removes it.
func (k *onKind) down() error {
	defer k.unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var faults []error
	for _, p := range k.Processes() {
		if _, ours := p.runner.(*child); ours {
			faults = append(faults, p.Kill())
		}
	}
	return errors.Join(append(faults, k.mend(ctx))...)
}

// mend undoes what a lab does to the machine and to the containers, also one that died without a word: its nftables table, its
// clients, pulled cables, frozen and stopped processes.
func (k *onKind) mend(ctx context.Context) error {
	nl := k.Host(switchHost).Netlink()
	faults := []error{removeFaultTable(ctx)}
	bridge, err := nl.LinkByName(kindBridge)
	if err != nil {
		return fmt.Errorf("find the network of the kind cluster: %w; make kind-up makes both", err)
	}
	links, err := nl.LinkList()
	if err != nil {
		return fmt.Errorf("list the ports of %s: %w", kindBridge, err)
	}
	for _, link := range links {
		a := link.Attrs()
		switch {
		case a.MasterIndex != bridge.Attrs().Index:
		case strings.HasPrefix(a.Name, kindPrefix+"-"):
			faults = append(faults, nl.LinkDel(link))
		case a.Flags&unix.IFF_UP == 0:
			faults = append(faults, nl.LinkSetUp(link))
		}
	}
	left, err := netspace.List(kindPrefix + "-")
	faults = append(faults, err)
	for _, name := range left {
		faults = append(faults, netspace.Delete(name))
	}
	for _, c := range k.containers() {
		faults = append(faults, k.mendNode(ctx, c))
	}
	return errors.Join(faults...)
}

// removeFaultTable removes the lab's table from the machine's own namespace, if it is there.
func removeFaultTable(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table bridge " + faultTable + "\ndelete table bridge " + faultTable + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("remove the table of faults: %w: %s", err, out)
	}
	return nil
}

func (k *onKind) record() error { return nil }

func (k *onKind) bridge(int) string { return kindBridge }

func (k *onKind) port(host string, nic int) string {
	if nic == 0 {
		return kindPrefix + "-" + host
	}
	return fmt.Sprintf("%s-%s.%d", kindPrefix, host, nic)
}

// containers are those of all nodes, of nodes that this lab does not use too.
func (k *onKind) containers() []container { return *k.found.Load() }

func (k *onKind) find(ctx context.Context) error {
	all, err := kindContainers(ctx)
	k.found.Store(&all)
	return err
}

// controlPlane is the container of the control plane.
func (k *onKind) controlPlane() container {
	return k.containers()[slices.IndexFunc(k.containers(), container.isControlPlane)]
}

// containerOf is the container behind a host.
func (k *onKind) containerOf(host string) container {
	if host == controlPlane {
		return k.controlPlane()
	}
	i := slices.IndexFunc(k.containers(), func(c container) bool { return c.Name == host })
	if i < 0 {
		panic(fmt.Sprintf("the kind cluster has no node %q", host))
	}
	return k.containers()[i]
}
