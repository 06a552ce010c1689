package kind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The docker network of the cluster. Its subnets and the nodes' addresses are those of the lab's first segment. Other
// containers get addresses from the ranges, unless they ask for a certain one, and so leave the nodes' and the Services'
// alone.
const (
	Network  = "kind"
	Bridge   = "kind0"
	SubnetV4 = "10.77.0.0/24"
	SubnetV6 = "fd77::/64"

	rangeV4   = "10.77.0.32/27"
	rangeV6   = "fd77::20/123"
	gatewayV4 = "10.77.0.1"
	gatewayV6 = "fd77::1"
)

// nodeAddresses is, for the shim, what each node's container asks docker for: with addresses of docker's choice a node that
// starts again could find its own taken.
func nodeAddresses() string {
	list := controlPlane + "=10.77.0.2,fd77::2"
	for i := range workers {
		name := Name + "-worker"
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		list += fmt.Sprintf(" %s=10.77.0.%[2]d,fd77::%[2]d", name, 11+i)
	}
	return list
}

// makeNetwork makes the cluster's network, fenced before its first packet.
func makeNetwork(ctx context.Context) error {
	if err := fence(ctx); err != nil {
		return err
	}
	const format = "{{range .IPAM.Config}}{{.Subnet}} {{end}}"
	if have, err := docker(ctx, "network", "inspect", "--format", format, Network); err == nil {
		subnets := strings.Fields(have)
		slices.Sort(subnets)
		if !slices.Equal(subnets, []string{SubnetV4, SubnetV6}) {
			return fmt.Errorf("docker network %s is there with the subnets %s, and the cluster needs %s and %s: "+
				"if nothing uses it, remove it (docker network rm %s)", Network, have, SubnetV4, SubnetV6, Network)
		}
		return nil
	}
	_, err := docker(ctx, "network", "create", "--driver", "bridge", "--opt", "com.docker.network.bridge.name="+Bridge,
		"--subnet", SubnetV4, "--ip-range", rangeV4, "--gateway", gatewayV4,
		"--ipv6", "--subnet", SubnetV6, "--ip-range", rangeV6, "--gateway", gatewayV6, Network)
	return err
}

// fence rejects what the bridge would forward to any other interface: an address that is no longer, or not yet, on the
// network would be sent to the gateway, and from there out of this machine.
func fence(ctx context.Context) error {
	for _, tables := range []string{"iptables", "ip6tables"} {
		if fenced(ctx, tables) {
			continue
		}
		if err := command(ctx, nil, nil, tables, fenceRule("-I", fenceChain(ctx, tables))...); err != nil {
			return fmt.Errorf("fence the docker network: %w", err)
		}
	}
	return nil
}

func unfence(ctx context.Context) error {
	var faults []error
	for _, tables := range []string{"iptables", "ip6tables"} {
		for fenced(ctx, tables) {
			if err := command(ctx, nil, nil, tables, fenceRule("-D", fenceChain(ctx, tables))...); err != nil {
				faults = append(faults, err)
				break
			}
		}
	}
	return errors.Join(faults...)
}

func fenced(ctx context.Context, tables string) bool {
	return command(ctx, nil, nil, tables, fenceRule("-C", fenceChain(ctx, tables))...) == nil
}

// fenceChain is docker's chain for rules of others. Older versions have it for IPv4 only.
func fenceChain(ctx context.Context, tables string) string {
	if command(ctx, nil, nil, tables, "-w", "-n", "-L", "DOCKER-USER") == nil {
		return "DOCKER-USER"
	}
	return "FORWARD"
}

func fenceRule(verb, chain string) []string {
	return []string{"-w", verb, chain, "-i", Bridge, "!", "-o", Bridge, "-j", "REJECT"}
}
