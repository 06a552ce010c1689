package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

const pool = `apiVersion: lanyard.dev/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec:
  addresses: [10.77.0.200-10.77.0.250, fd77::200-fd77::2ff]
---
apiVersion: lanyard.dev/v1beta1
kind: L2Advertisement
metadata: {name: lan}
spec: {ipAddressPools: [lan]}
`

const service = `apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports:
  - {name: http, port: 80}
  - {name: echo, port: 7, protocol: UDP}
`

// story is one run of the demo: what is shown, and what was measured on the way.
type story struct {
	lab    *lab.Lab
	begun  time.Time
	ip4    netip.Addr
	ip6    netip.Addr
	owner4 string
	owner6 string
	facts  []fact
}

// tell goes through the chapters and stops at the first that is not as it should be.
func (s *story) tell(ctx context.Context) error {
	s.measured("lab up: control plane, three nodes, kube-proxies", time.Since(s.begun))
	for _, chapter := range []func(context.Context) error{
		s.install, s.createService, s.whoAnswers, s.runBackends, s.fetchPages, s.failovers,
	} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	s.summary()
	return nil
}

func (s *story) install(ctx context.Context) error {
	s.title("Lanyard: CRDs, one controller, a speaker on every node")
	if err := s.lab.InstallProduct(ctx); err != nil {
		return err
	}
	if _, err := s.lab.StartController(ctx, "cp", "controller"); err != nil {
		return err
	}
	for _, node := range s.lab.Nodes() {
		if _, err := s.lab.StartSpeaker(ctx, node); err != nil {
			return err
		}
	}
	s.say("running: the controller as a user without any capability, each speaker with CAP_NET_RAW alone")
	for _, host := range append(s.lab.Nodes(), "cp") {
		if err := s.waitReady(ctx, host); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) createService(ctx context.Context) error {
	s.title("A pool of addresses, and a Service that wants one of each family")
	s.show(pool)
	if err := s.lab.Apply(ctx, pool); err != nil {
		return err
	}
	s.show(service)
	begun := time.Now()
	if err := s.lab.Apply(ctx, service); err != nil {
		return err
	}
	err := s.until(ctx, 20*time.Second, "web has no address of each family", func() (bool, error) {
		ips, err := s.ingress(ctx)
		if err != nil || len(ips) != 2 {
			return false, err
		}
		s.ip4, s.ip6 = ips[0], ips[1]
		return s.ip4.Is4() && s.ip6.Is6(), nil
	})
	if err != nil {
		return err
	}
	s.measured("from `kubectl apply` to both addresses in the status", time.Since(begun))
	return s.kubectl(ctx, "get", "svc", "web")
}

func (s *story) ingress(ctx context.Context) ([]netip.Addr, error) {
	svc, err := s.lab.Client().CoreV1().Services("default").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var ips []netip.Addr
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		ip, err := netip.ParseAddr(ingress.IP)
		if err != nil {
			return nil, err
		}
		ips = append(ips, ip)
	}
	return ips, nil
}

// whoAnswers asks the LAN for both addresses: exactly one node must claim each.
func (s *story) whoAnswers(ctx context.Context) (err error) {
	s.title("Who answers on the LAN? The client c1 asks by ARP and by Neighbor Discovery")
	return s.learnOwners(ctx)
}

func (s *story) learnOwners(ctx context.Context) (err error) {
	if s.owner4, err = s.onlyOwner(ctx, "c1", s.ip4); err != nil {
		return err
	}
	s.owner6, err = s.onlyOwner(ctx, "c1", s.ip6)
	return err
}

// runBackends puts the pods where no plug will be pulled, so that what is seen later is the address moving
// and not Kubernetes noticing dead endpoints.
func (s *story) runBackends(ctx context.Context) error {
	others := slices.DeleteFunc(s.lab.Nodes(), func(n string) bool { return len(s.ownedBy(n)) > 0 })
	s.title("Two backends, on nodes that do not own the addresses")
	for i := range 2 {
		if err := s.lab.RunPod(ctx, others[i%len(others)], fmt.Sprint("web-", i+1), map[string]string{"app": "web"}); err != nil {
			return err
		}
	}
	return s.kubectl(ctx, "get", "pods", "-o", "wide")
}

func (s *story) fetchPages(ctx context.Context) error {
	s.title("A page over IPv4 and over IPv6, from both clients")
	for _, client := range s.lab.Clients() {
		for _, ip := range []netip.Addr{s.ip4, s.ip6} {
			url := lab.URL(ip, lab.HTTPPort)
			err := s.until(ctx, 10*time.Second, url+" does not answer", func() (bool, error) {
				reply, err := s.lab.HTTPGet(client, url, time.Second)
				if err != nil {
					return false, nil // the endpoints may be on their way to kube-proxy
				}
				s.good("%s> curl %-24s pod=%s node=%s client=%s", client, url, reply.Pod, reply.Node, reply.Client.Addr())
				return true, nil
			})
			if err != nil {
				return err
			}
			if err := s.neighbour(client, ip); err != nil {
				return err
			}
		}
	}
	return nil
}

// neighbour shows what the client's kernel has learned by itself.
func (s *story) neighbour(client string, ip netip.Addr) error {
	n, known, err := s.lab.Neighbour(client, ip)
	if err != nil {
		return err
	}
	if !known || s.lab.HostByMAC(n.MAC) != s.ownerOf(ip) {
		return fmt.Errorf("%s's kernel has %s at %v, not at %s", client, ip, n.MAC, s.ownerOf(ip))
	}
	s.say("    %s's kernel: %s lladdr %s %s, that is %s", client, ip, n.MAC, n.State, s.lab.HostByMAC(n.MAC))
	return nil
}

// failovers pulls the plug of the node behind the IPv4 address and, unless that was it too, of the one behind
// the IPv6 address.
func (s *story) failovers(ctx context.Context) error {
	before6 := s.owner6
	first := s.owner4
	if err := s.pullThePlug(ctx, first); err != nil {
		return err
	}
	if before6 == first {
		return nil
	}
	return s.pullThePlug(ctx, s.owner6)
}

// pullThePlug measures the gap that clients see, one request every 5 ms over each family, and plugs back.
func (s *story) pullThePlug(ctx context.Context, node string) error {
	s.title("The plug of " + node + " is pulled, while c1 and c2 each send a request every 5 ms")
	flows, err := s.startFlows(ctx)
	if err != nil {
		return err
	}
	defer flows.stop()
	moving := s.ownedBy(node)
	if err := s.lab.Unplug(node); err != nil {
		return err
	}
	s.say("unplugged %s", node)
	for _, ip := range moving {
		err := s.until(ctx, 20*time.Second, "no other node took "+ip.String()+" over", func() (bool, error) {
			return s.movedFrom(node, ip), nil
		})
		if err != nil {
			return err
		}
	}
	for ip, flow := range flows {
		if _, err := flow.WaitAnswer(ctx); err != nil {
			return fmt.Errorf("%s does not answer after the plug was pulled: %w", ip, err)
		}
		s.gap(ip, slices.Contains(moving, ip), flow.Stop())
	}
	if err := s.learnOwners(ctx); err != nil {
		return err
	}
	return s.plugBack(ctx, node)
}

type flows map[netip.Addr]*lab.Flow

func (f flows) stop() {
	for _, flow := range f {
		flow.Stop()
	}
}

// startFlows asks each address steadily, and returns once all of them answer.
func (s *story) startFlows(ctx context.Context) (flows, error) {
	all := flows{}
	for ip, client := range map[netip.Addr]string{s.ip4: "c1", s.ip6: "c2"} {
		flow, err := s.lab.UDPFlow(client, netip.AddrPortFrom(ip, lab.EchoPort), lab.FlowOptions{FreshPort: true})
		if err != nil {
			all.stop()
			return nil, err
		}
		all[ip] = flow
	}
	for ip, flow := range all {
		if _, err := flow.WaitAnswer(ctx); err != nil {
			all.stop()
			return nil, fmt.Errorf("%s does not answer before the plug is pulled: %w", ip, err)
		}
		flow.Reset()
	}
	return all, nil
}

func (s *story) ownedBy(node string) (ips []netip.Addr) {
	for _, ip := range []netip.Addr{s.ip4, s.ip6} {
		if s.ownerOf(ip) == node {
			ips = append(ips, ip)
		}
	}
	return ips
}

// movedFrom reports whether a node other than the given one, and only one, answers for an address.
func (s *story) movedFrom(node string, ip netip.Addr) bool {
	answers, err := s.lab.WhoHas("c1", ip, 50*time.Millisecond)
	return err == nil && len(answers) == 1 && answers[0].Host != node
}

func (s *story) gap(ip netip.Addr, moved bool, r lab.Report) {
	gap := r.Gap.Duration().Round(time.Millisecond)
	if !moved {
		s.say("%s is on another node and goes on: of %d requests none waited longer than %s", ip, r.Sent, gap)
		return
	}
	s.good("%s: %d requests, longest time without an answer %s", ip, r.Sent, gap)
	s.measured(fmt.Sprintf("without an answer from %s after its node dropped off the LAN", ip), r.Gap.Duration())
}

func (s *story) plugBack(ctx context.Context, node string) error {
	s.say("plugging %s back", node)
	if err := s.lab.Plug(node); err != nil {
		return err
	}
	begun := time.Now()
	for _, n := range s.lab.Nodes() {
		err := s.until(ctx, 20*time.Second, n+" does not see three speakers", func() (bool, error) {
			members, err := s.lab.Metric(ctx, n, `lanyard_speaker_members{state="alive"}`)
			return members == 3, err
		})
		if err != nil {
			return err
		}
	}
	s.good("%s is back: each of the three speakers sees the others", node)
	s.measured("from plugging "+node+" back until all speakers see each other", time.Since(begun))
	if err := s.lab.WaitNodeReady(ctx, node, true); err != nil {
		return err
	}
	if err := s.stayed(ctx, node); err != nil {
		return err
	}
	for _, ip := range []netip.Addr{s.ip4, s.ip6} {
		if _, err := s.lab.HTTPGet("c2", lab.URL(ip, lab.HTTPPort), time.Second); err != nil {
			return err
		}
	}
	return nil
}

// stayed checks that a node that came back has taken nothing: moving an address once more would be one disruption too many.
func (s *story) stayed(ctx context.Context, node string) error {
	owner4, owner6 := s.owner4, s.owner6
	if err := s.learnOwners(ctx); err != nil {
		return err
	}
	if s.owner4 != owner4 || s.owner6 != owner6 {
		return fmt.Errorf("addresses moved when %s came back: from %s and %s to %s and %s", node, owner4, owner6, s.owner4, s.owner6)
	}
	s.say("%s took nothing back: what moved stays where it is", node)
	return nil
}

// kubectl runs it and prints command and output.
func (s *story) kubectl(ctx context.Context, args ...string) error {
	out, err := s.lab.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	s.say("$ kubectl %s", strings.Join(args, " "))
	s.show(out)
	return nil
}
