package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/e2etest/kind"
	"github.com/lanyard-lb/lanyard/e2etest/netspace"
)

// clientName is the client's network namespace; its port on the bridge has the same name.
const clientName = "upstream-client"

// clientAddresses are the client's. None may be in the /16 around the nodes' addresses.
var clientAddresses = []netip.Prefix{netip.MustParsePrefix("10.79.0.2/24"), netip.MustParsePrefix("fd79::2/64")}

// pools has what the tests' Services get their addresses from: one pool for each family.
const pools = `
apiVersion: lanyard.dev/v1beta1
kind: IPAddressPool
metadata: {name: upstream-ipv4}
spec: {addresses: [10.77.0.200-10.77.0.250]}
---
apiVersion: lanyard.dev/v1beta1
kind: IPAddressPool
metadata: {name: upstream-ipv6}
spec: {addresses: ["fd77::200-fd77::2ff"]}
---
apiVersion: lanyard.dev/v1beta1
kind: L2Advertisement
metadata: {name: upstream}
spec: {ipAddressPools: [upstream-ipv4, upstream-ipv6]}
`

// dualStack gives both families of addresses to load balancers of the tests, unless they say what they want, which they never
// do. Without it they would be IPv4 only, and the test that asks for a Service's health on each address of a node could not
// pass: kube-proxy answers in the Service's families. Tests of other namespaces count endpoints as if there was one family.
const dualStack = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: upstream-dual-stack}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [services]}]
    namespaceSelector: {matchExpressions: [{key: e2e-framework, operator: In, values: [loadbalancers, esipp]}]}
  matchConditions:
  - name: unsaid
    expression: '!has(object.spec.ipFamilyPolicy) && has(object.spec.type) && object.spec.type == "LoadBalancer"'
  failurePolicy: Fail
  reinvocationPolicy: Never
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: 'Object{spec: Object.spec{ipFamilyPolicy: "PreferDualStack"}}'}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: upstream-dual-stack}
spec: {policyName: upstream-dual-stack}
`

// stage is a kind cluster made ready for the tests, and the client that they run on.
type stage struct {
	*kind.Cluster
	bin       string
	nodes     []kind.Node
	apiserver string // its URL, for the client
	client    *netspace.Namespace
	undo      []func(ctx context.Context) error
}

// raise makes the client, gives the nodes a way to it, Pods names to ask for and an image, and the cluster its pools.
func raise(ctx context.Context, bin string) (*stage, error) {
	cluster, err := kind.Open(ctx)
	if err != nil {
		return nil, err
	}
	s := &stage{Cluster: cluster, bin: bin}
	steps := []func(context.Context) error{s.readNodes, s.plugIn, s.route, s.serveNames, s.loadImage, s.makePools, s.makeDualStack}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, s.clear())
		}
	}
	return s, nil
}

// clear takes away what raise made, but for the image. It takes as long as the last test's Pods take to end: the Services go
// after them, and the pools after the Services.
func (s *stage) clear() error {
	ctx, stop := context.WithTimeout(context.Background(), 3*time.Minute)
	defer stop()
	var errs []error
	for _, undo := range slices.Backward(s.undo) {
		errs = append(errs, undo(ctx))
	}
	return errors.Join(errs...)
}

func (s *stage) readNodes(ctx context.Context) (err error) {
	if s.nodes, err = s.Nodes(ctx); err != nil {
		return err
	}
	for _, n := range s.nodes {
		if n.ControlPlane {
			s.apiserver = "https://" + netip.AddrPortFrom(n.IPv4, 6443).String()
		}
	}
	return nil
}

// plugIn makes the client's namespace and connects it to the bridge.
func (s *stage) plugIn(ctx context.Context) error {
	bridge, err := netlink.LinkByName(kind.Bridge)
	if err != nil {
		return fmt.Errorf("find the bridge %s: %w", kind.Bridge, err)
	}
	if err := unplug(); err != nil { // what a killed run left
		return err
	}
	s.client, err = netspace.Create(ctx, clientName)
	if err != nil {
		return err
	}
	s.undo = append(s.undo, func(context.Context) error { return errors.Join(s.client.Close(), unplug()) })
	port := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs()}
	port.Name, port.MasterIndex, port.Flags = clientName, bridge.Attrs().Index, net.FlagUp
	port.PeerName, port.PeerNamespace = "eth0", netlink.NsFd(s.client.FD())
	if err := netlink.LinkAdd(port); err != nil {
		return fmt.Errorf("connect the client to %s: %w", kind.Bridge, err)
	}
	return s.address()
}

// route tells the nodes where the client is.
func (s *stage) route(ctx context.Context) error {
	for _, n := range s.nodes {
		for _, a := range clientAddresses {
			to := a.Masked().String()
			if _, err := s.Exec(ctx, n.Name, "ip", "route", "replace", to, "dev", "eth0"); err != nil {
				return err
			}
			s.undo = append(s.undo, func(ctx context.Context) error {
				_, err := s.Exec(ctx, n.Name, "ip", "route", "del", to, "dev", "eth0")
				return err
			})
		}
	}
	return nil
}

// makePools makes the pools and waits until they are in force.
func (s *stage) makePools(ctx context.Context) error {
	// Pools of a run that was killed, or deleted but still used by its Services.
	if _, err := s.kubectl(ctx, strings.NewReader(pools), "delete", "--ignore-not-found", "--timeout=2m", "-f", "-"); err != nil {
		return err
	}
	if err := s.apply(ctx, pools); err != nil {
		return err
	}
	_, err := s.kubectl(ctx, nil, "wait", "--for=condition=Ready", "--timeout=30s",
		"ipaddresspools.lanyard.dev/upstream-ipv4", "ipaddresspools.lanyard.dev/upstream-ipv6")
	return err
}

// address gives the client its addresses, and routes to the subnets of the cluster's network.
func (s *stage) address() error {
	at := s.client.Netlink()
	eth0, err := at.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find the client's eth0: %w", err)
	}
	for _, a := range clientAddresses {
		addr := &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NODAD} // nobody else has it
		if err := at.AddrAdd(eth0, addr); err != nil {
			return fmt.Errorf("give the client %s: %w", a, err)
		}
	}
	if err := at.LinkSetUp(eth0); err != nil {
		return fmt.Errorf("bring the client's eth0 up: %w", err)
	}
	for _, subnet := range []string{kind.SubnetV4, kind.SubnetV6} {
		to := ipNet(netip.MustParsePrefix(subnet))
		if err := at.RouteReplace(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: to}); err != nil {
			return fmt.Errorf("give the client a route to %s: %w", to, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// probe is a namespace in which makeDualStack sees whether the policy is in force.
const probe = `
apiVersion: v1
kind: Namespace
metadata: {name: upstream-probe, labels: {e2e-framework: loadbalancers}}
`

// makeDualStack makes the policy dualStack and waits until the API server goes by it.
func (s *stage) makeDualStack(ctx context.Context) error {
	if err := errors.Join(s.apply(ctx, dualStack), s.apply(ctx, probe)); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		policy, err := s.kubectl(ctx, nil, "create", "service", "loadbalancer", "probe", "-n", "upstream-probe", "--tcp=80",
			"--dry-run=server", "-o", "jsonpath={.spec.ipFamilyPolicy}")
		if err == nil && string(policy) == "PreferDualStack" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for load balancers to be dual-stack: the last was %q: %w", policy, errors.Join(ctx.Err(), err))
		}
	}
}

// unplug removes the client. It is no error if there is none.
func unplug() error {
	if port, err := netlink.LinkByName(clientName); err == nil {
		if err := netlink.LinkDel(port); err != nil {
			return fmt.Errorf("remove the client's port: %w", err)
		}
	}
	return netspace.Delete(clientName)
}

// loadImage copies the image of the tests' Pods from docker to the nodes.
func (s *stage) loadImage(ctx context.Context) error {
	name, err := output(exec.CommandContext(ctx, filepath.Join(s.bin, "e2e.test"), "-agnhost"))
	if err != nil {
		return err
	}
	tar := filepath.Join(s.bin, "agnhost.tar")
	if _, err := output(exec.CommandContext(ctx, "docker", "save", "-o", tar, strings.TrimSpace(string(name)))); err != nil {
		return err
	}
	return s.LoadImage(ctx, tar)
}

// apply makes objects, to be removed when all is over.
func (s *stage) apply(ctx context.Context, objects string) error {
	if _, err := s.kubectl(ctx, strings.NewReader(objects), "apply", "-f", "-"); err != nil {
		return err
	}
	s.undo = append(s.undo, func(ctx context.Context) error {
		_, err := s.kubectl(ctx, strings.NewReader(objects), "delete", "--ignore-not-found", "--timeout=2m", "-f", "-")
		return err
	})
	return nil
}

func (s *stage) kubectl(ctx context.Context, stdin *strings.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.Kubectl(), append([]string{"--kubeconfig", s.Kubeconfig()}, args...)...)
	if stdin != nil {
		cmd.Stdin = stdin
	}
	return output(cmd)
}

// output runs the command and, if it fails, says what it printed.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
