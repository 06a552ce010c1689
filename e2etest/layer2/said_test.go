package layer2

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// announced waits until the condition Announced of a Service has a status and a reason, and returns it.
func (c *cluster) announced(t *testing.T, name string, status metav1.ConditionStatus, reason string) metav1.Condition {
	t.Helper()
	var have *metav1.Condition
	eventually(t, 15*time.Second, func() error {
		s := c.Service(t, name)
		have = labtest.ConditionOf(s, labtest.Announced)
		if have == nil || have.Status != status || have.Reason != reason {
			return fmt.Errorf("Service %s, %v, has Announced %+v, want %s, %s", name, ingress(s), have, status, reason)
		}
		return nil
	})
	return *have
}

// l2status is the part of a ServiceL2Status that the tests read.
type l2status struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Status   struct {
		Announcements []announcement `json:"announcements"`
	} `json:"status"`
}

type announcement struct {
	Address, Node, Protocol, Phase, Reason, Message, Rival string
	Since                                                  *metav1.Time
	Interfaces                                             []struct{ Name, MAC string }
}

// l2status reads what the speakers say of a Service.
func (c *cluster) l2status(t *testing.T, name string) (have l2status, err error) {
	t.Helper()
	o, err := c.Resource("ServiceL2Status").Get(within(t, 10*time.Second), name, metav1.GetOptions{})
	if err != nil {
		return have, err
	}
	raw, err := o.MarshalJSON()
	if err != nil {
		return have, err
	}
	return have, json.Unmarshal(raw, &have)
}

// of is what is said of one address.
func (s l2status) of(ip netip.Addr) (announcement, error) {
	for _, a := range s.Status.Announcements {
		if a.Address == ip.String() {
			return a, nil
		}
	}
	return announcement{}, fmt.Errorf("%s is not among %+v", ip, s.Status.Announcements)
}

// reported waits until the ServiceL2Status of a Service says of each of its addresses what the LAN says, and returns it.
func (c *cluster) reported(t *testing.T, name string, ips ...netip.Addr) (have l2status) {
	t.Helper()
	eventually(t, 15*time.Second, func() (err error) {
		have, err = c.l2status(t, name)
		for _, ip := range ips {
			err = errors.Join(err, c.asOnLAN(have, ip))
		}
		return err
	})
	return have
}

// asOnLAN is an error unless what is said of an address is what a client is answered.
func (c *cluster) asOnLAN(have l2status, ip netip.Addr) error {
	a, err := have.of(ip)
	if err != nil {
		return err
	}
	answers, err := c.WhoHas(c.Clients()[0], ip, patience)
	if err != nil {
		return err
	}
	if len(answers) == 0 {
		return fmt.Errorf("nobody answers for %s", ip)
	}
	protocol := map[bool]string{true: "ARP", false: "NDP"}[ip.Is4()]
	if a.Node != answers[0].Host || a.Protocol != protocol || a.Phase != "Announcing" || a.Since == nil {
		return fmt.Errorf("%+v is said of %s, which %s announces", a, ip, answers[0].Host)
	}
	for _, ifi := range a.Interfaces {
		if strings.EqualFold(ifi.MAC, answers[0].MAC.String()) {
			return nil
		}
	}
	return fmt.Errorf("%s is answered with %s; among the interfaces that are reported, %v, there is none with that", ip, answers[0].MAC, a.Interfaces)
}

// told waits until there is an event on a Service that begins so, as in "Warning NoEndpoint:", and has that part.
func (c *cluster) told(t *testing.T, name, begin, part string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		events := c.Events(t, name)
		if !slices.ContainsFunc(events, func(e string) bool { return strings.HasPrefix(e, begin) && strings.Contains(e, part) }) {
			return fmt.Errorf("the events on %s are %q, want one that begins with %q and has %q", name, events, begin, part)
		}
		return nil
	})
}

// owned adds up the metric of owned addresses over all nodes, by node.
func (c *cluster) owned(t *testing.T) (total int, byNode map[string]int) {
	t.Helper()
	byNode = map[string]int{}
	for _, node := range c.Nodes() {
		n, err := c.MetricSum(t.Context(), node, "lanyard_speaker_owned_addresses")
		must(t, err)
		byNode[node] = int(n)
		total += int(n)
	}
	return total, byNode
}
