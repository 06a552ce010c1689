package lab

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ProxyMode is the kube-proxy mode of the nodes.
type ProxyMode string

// The modes of kube-proxy that the lab can run.
const (
	NFTables ProxyMode = "nftables"
	IPTables ProxyMode = "iptables"
	// NoProxy leaves kube-proxy out: service addresses are answered for, and nothing is behind them.
	NoProxy ProxyMode = "none"
)

// Options say what lab to build. The zero value is a lab of three nodes and one client on one segment.
type Options struct {
	// Prefix names the lab and begins the name of each of its namespaces: one letter, then up to 14 letters and digits,
	// all lower case. Empty picks a free one.
	Prefix string
	// Nodes and Clients are numbers of hosts: 0 means three nodes and one client, a negative number none.
	Nodes, Clients int
	// Segments is the number of separate layer-2 segments; 0 means 1. Nodes have a NIC (eth0, eth1, ...) in each, clients
	// and the control plane in the first.
	Segments int
	// Attach says otherwise for the hosts it names: the segment of each of their NICs, in order. A second NIC in the same
	// segment gets no address. Nodes need segment 0 first: the control plane is there.
	Attach map[string][]int
	// MLDSnooping makes the switches forward IPv6 multicast only where a listener has reported itself, as many real
	// switches do, and send the queries that this needs.
	MLDSnooping bool
	// Proxy is the kube-proxy mode; empty means NFTables.
	Proxy ProxyMode
	// NoCluster leaves out the control plane, kube-proxy and the node agents: just hosts on a LAN.
	NoCluster bool
	// NodeGracePeriod is how long after its last sign of life a node turns NotReady; 0 means 10 s.
	NodeGracePeriod time.Duration
	// InKernel gives speakers the capabilities with which they have the kernel answer.
	InKernel bool
	// ProductDir holds controller and speaker; empty means $LANYARD_BIN, or bin in the repository. The lab's own programs
	// are always those in bin.
	ProductDir string
	// Persistent makes a lab that outlives this process, until `lab down`.
	Persistent bool
	// Out receives progress, a line per step; nil means none.
	Out io.Writer

	binDir string // of the lab's own programs
}

var prefixPattern = regexp.MustCompile(`^[a-z][a-z0-9]{0,14}$`)

// withDefaults fills in what was left empty and refuses what cannot be built.
func (o Options) withDefaults() (Options, error) {
	o.Nodes, o.Clients = orDefault(o.Nodes, 3), orDefault(o.Clients, 1)
	o.Segments = orDefault(o.Segments, 1)
	if o.Proxy == "" {
		o.Proxy = NFTables
	}
	if o.NodeGracePeriod == 0 {
		o.NodeGracePeriod = 10 * time.Second
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	root, err := repoRoot()
	if err != nil {
		return o, err
	}
	o.binDir = filepath.Join(root, "bin")
	o.ProductDir = cmp.Or(o.ProductDir, os.Getenv("LANYARD_BIN"), o.binDir)
	return o, o.check()
}

func (o Options) check() error {
	switch {
	case o.Prefix != "" && !prefixPattern.MatchString(o.Prefix):
		return fmt.Errorf("lab prefix %q: want a letter and up to 14 more letters and digits, lower case", o.Prefix)
	case o.Nodes > maxNodes || o.Clients > maxClients:
		return fmt.Errorf("%d nodes and %d clients: a lab holds at most %d and %d", o.Nodes, o.Clients, maxNodes, maxClients)
	case o.Segments < 1 || o.Segments > 200:
		return fmt.Errorf("%d segments: want 1 to 200", o.Segments)
	case o.Proxy != NFTables && o.Proxy != IPTables && o.Proxy != NoProxy:
		return fmt.Errorf("kube-proxy mode %q: want %s, %s or %s", o.Proxy, NFTables, IPTables, NoProxy)
	}
	for host, segments := range o.Attach {
		for _, s := range segments {
			if s < 0 || s >= o.Segments {
				return fmt.Errorf("attach %s to segment %d: the lab has segments 0 to %d", host, s, o.Segments-1)
			}
		}
		if host == controlPlane || (strings.HasPrefix(host, "n") && !o.NoCluster) {
			if len(segments) == 0 || segments[0] != 0 {
				return fmt.Errorf("attach %s: its first NIC must be in segment 0, where the control plane is", host)
			}
		}
	}
	return nil
}

// attachments lists the segments of a host's NICs, in order.
func (o Options) attachments(name string, role Role) []int {
	if segments, ok := o.Attach[name]; ok {
		return segments
	}
	if role != NodeRole {
		return []int{0}
	}
	all := make([]int, o.Segments)
	for s := range all {
		all[s] = s
	}
	return all
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return max(n, 0)
}

func nodeName(i int) string   { return "n" + strconv.Itoa(i) }
func clientName(i int) string { return "c" + strconv.Itoa(i) }
