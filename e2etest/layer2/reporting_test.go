package layer2

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// TestReporting is about what users are told of an address: rows T2 and T6. What is said must be what the LAN says.
func TestReporting(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 2, Clients: 2})
	t.Run("why nobody announces", func(t *testing.T) { whyNot(t, c) })
	t.Run("the status of an announcement", func(t *testing.T) { announcementStatus(t, c) })
	t.Run("what follows a failover", func(t *testing.T) { afterFailover(t, c) })
	t.Run("metrics", func(t *testing.T) { metrics(t, c) })
	t.Run("nothing new, nothing said", func(t *testing.T) { nothingNew(t, c) })
	t.Run("announced again and again", func(t *testing.T) { refreshed(t, c) })
}

// whyNot: a Service has an address and nobody announces it, for reasons that change.
func whyNot(t *testing.T, c *cluster) {
	c.Pool(t, "why", "[10.77.0.200, fd77::200]")
	c.Create(t, serviceYAML("why", dualStack))
	ips := c.Assigned(t, "why", 2)
	c.announced(t, "why", metav1.ConditionFalse, "NoAdvertisement")
	c.told(t, "why", "Warning NoAdvertisement:", "")
	c.Create(t, advertisementYAML("why", "ipAddressPools: [why]", "nodeSelectors: [{matchLabels: {zone: none}}]"))
	c.announced(t, "why", metav1.ConditionFalse, "NoEligibleNode")
	c.Patch(t, "L2Advertisement", "why", `{"spec":{"nodeSelectors":null,"interfaces":["nosuch"]}}`)
	c.announced(t, "why", metav1.ConditionFalse, "NoInterface")
	c.Silent(t, 0, ips...)
	c.Patch(t, "L2Advertisement", "why", `{"spec":{"interfaces":null}}`)
	c.announced(t, "why", metav1.ConditionTrue, "NoEndpoint")
	c.Owners(t, ips...)
	c.RunWeb(t, c.Node(1), "web-1")
	c.announced(t, "why", metav1.ConditionTrue, "Announced")
}

// announcementStatus: the object of a Service says what the LAN says, kubectl shows it, and it goes with its Service.
func announcementStatus(t *testing.T, c *cluster) {
	c.Pool(t, "said", "[10.77.0.201, fd77::201]")
	c.Advertise(t, "said")
	c.Create(t, serviceYAML("said", dualStack))
	ips := c.Assigned(t, "said", 2)
	have := c.reported(t, "said", ips...)
	service := c.Service(t, "said")
	if refs := have.Metadata.OwnerReferences; len(refs) != 1 || refs[0].UID != service.UID || refs[0].Kind != "Service" {
		t.Errorf("the owners of the object are %+v, want Service said, %s", refs, service.UID)
	}
	out, err := c.Kubectl(within(t, 10*time.Second), "get", "l2status", "said", "-o", "wide")
	must(t, err)
	t.Log("\n" + out)
	c.inOutput(t, out, have, ips)

	c.Delete(t, "Service", "said")
	eventually(t, 30*time.Second, func() error {
		_, err := c.l2status(t, "said")
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("the object of a deleted Service is still there"))
	})
}

// inOutput checks that what kubectl prints has the addresses, and the node, interface, MAC address and protocol of each.
func (c *cluster) inOutput(t *testing.T, out string, have l2status, ips []netip.Addr) {
	t.Helper()
	for _, ip := range ips {
		a, err := have.of(ip)
		must(t, err)
		for _, want := range []string{ip.String(), a.Node, a.Interfaces[0].Name, a.Interfaces[0].MAC, a.Protocol} {
			if want == "" || !strings.Contains(out, want) {
				t.Errorf("kubectl does not print %q of %+v", want, a)
			}
		}
	}
}

// afterFailover: node and time of the announcement change with the owner, and one event tells of each change; the condition
// was true before and after, and says so.
func afterFailover(t *testing.T, c *cluster) {
	c.Pool(t, "moving", "[10.77.0.202, fd77::202]")
	c.Advertise(t, "moving")
	c.RunWeb(t, c.Node(1), "web-1")
	c.Create(t, serviceYAML("moving", dualStack))
	ips := c.Assigned(t, "moving", 2)
	before := c.reported(t, "moving", ips...)
	condition := c.announced(t, "moving", metav1.ConditionTrue, "Announced")
	owner := c.Owner(t, ips[0])
	c.told(t, "moving", "Normal ", owner)
	events := len(c.Events(t, "moving"))

	t.Cleanup(func() { // if the test has failed half way
		if !c.Speaker(owner).Alive() {
			_ = c.Speaker(owner).Restart()
		}
	})
	must(t, c.Speaker(owner).Kill())
	c.OwnedBy(t, 5*time.Second, c.Others(owner), ips...)
	after := c.reported(t, "moving", ips...)
	was, _ := before.of(ips[0])
	is, _ := after.of(ips[0])
	if is.Node == was.Node || is.Since.Before(was.Since) {
		t.Errorf("the announcement was %+v and is %+v", was, is)
	}
	now := c.announced(t, "moving", metav1.ConditionTrue, "Announced")
	if !now.LastTransitionTime.Equal(&condition.LastTransitionTime) {
		t.Errorf("the condition was True all the time, but %+v became %+v", condition, now)
	}
	c.told(t, "moving", "Normal ", is.Node)
	must(t, c.Speaker(owner).Restart())
	c.AllTogether(t)
	throughout(t, 2*time.Second, func() error {
		if all := c.Events(t, "moving"); len(all) > events+len(ips) {
			return fmt.Errorf("more events than changes: %q", all)
		}
		return nil
	})
}

// metrics: what nodes own, what they have answered and announced; nothing any more when the Service has gone.
func metrics(t *testing.T, c *cluster) {
	c.Pool(t, "counted", "[10.77.0.203, fd77::203]")
	c.Advertise(t, "counted")
	c.Create(t, serviceYAML("counted", dualStack))
	ips := c.Assigned(t, "counted", 2)
	owners := c.Owners(t, ips...)
	for _, ip := range ips {
		family := map[bool]string{true: `family="IPv4"`, false: `family="IPv6"`}[ip.Is4()]
		for _, node := range c.Nodes() {
			c.counts(t, node, map[bool]float64{true: 1}[owners[ip] == node], "lanyard_speaker_owned_addresses", family)
		}
		for _, outcome := range []string{"answered", "announced"} {
			n, err := c.MetricSum(t.Context(), owners[ip], "lanyard_layer2_frames_total", family, `outcome="`+outcome+`"`)
			must(t, err)
			if n < 1 {
				t.Errorf("%s has %s %v frames of %s", owners[ip], outcome, n, family)
			}
		}
	}
	c.Delete(t, "Service", "counted")
	for _, node := range c.Nodes() {
		c.counts(t, node, 0, "lanyard_speaker_owned_addresses")
	}
}

// counts waits until a metric of a node has a value.
func (c *cluster) counts(t *testing.T, node string, want float64, metric string, labels ...string) {
	t.Helper()
	eventually(t, 5*time.Second, func() error {
		have, err := c.MetricSum(t.Context(), node, metric, labels...)
		if err == nil && have != want {
			err = fmt.Errorf("%s%v on %s is %v, want %v", metric, labels, node, have, want)
		}
		return err
	})
}

// nothingNew is W-06: what changes nothing for an address, on nodes, pools, Services and speakers, makes no frame, no event and
// no write.
func nothingNew(t *testing.T, c *cluster) {
	c.Pool(t, "still", "[10.77.0.204, fd77::204]")
	c.Advertise(t, "still")
	c.Create(t, serviceYAML("still", dualStack))
	ips := c.Assigned(t, "still", 2)
	owners := c.Owners(t, ips...)
	have := c.reported(t, "still", ips...)
	flooded := c.flood(t)
	flooded.quiet(t, ips...)
	events, version, begun := c.Events(t, "still"), c.Service(t, "still").ResourceVersion, time.Now()

	c.Label(t, c.Node(1), "example.com/colour", "blue")
	c.Pool(t, "unrelated", "[10.77.0.205, fd77::205]")
	c.Advertise(t, "unrelated")
	c.Create(t, serviceYAML("unrelated", dualStack))
	c.Owners(t, c.Assigned(t, "unrelated", 2)...) // by now the speakers have seen what was before
	c.restartController(t)
	c.Patch(t, "L2Advertisement", "still", `{"metadata":{"labels":{"example.com/colour":"blue"}}}`)
	c.staysPut(t, 2*time.Second, owners)

	for _, ip := range ips {
		if frames := flooded.announcements(ip, begun, ""); len(frames) > 0 {
			t.Errorf("%s was announced again for nothing: %s", ip, lines(frames))
		}
	}
	if now := c.Events(t, "still"); len(now) != len(events) {
		t.Errorf("the events were %q and are %q now", events, now)
	}
	if now := c.Service(t, "still"); now.ResourceVersion != version {
		t.Errorf("the Service was written to: %+v", labtest.ConditionOf(now, labtest.Announced))
	}
	if now, err := c.l2status(t, "still"); err != nil || now.Metadata.ResourceVersion != have.Metadata.ResourceVersion {
		t.Errorf("the object of the Service was written to (%v): it was %+v and is %+v now", err, have, now)
	}
}

// restartController restarts the controller in good order, so that it need not wait for a lease.
func (c *cluster) restartController(t *testing.T) {
	t.Helper()
	controller := c.Process("cp", "controller")
	must(t, controller.Term())
	_, err := controller.Wait(within(t, 20*time.Second))
	must(t, err)
	must(t, controller.Restart())
}

// refreshed: with --announce-refresh owners announce what they have at that pace for ever, for switches that forget.
func refreshed(t *testing.T, c *cluster) {
	c.StartSpeakers(t, "--announce-refresh=1s")
	c.Pool(t, "fresh", "[10.77.0.206, fd77::206]")
	c.Advertise(t, "fresh")
	c.Create(t, serviceYAML("fresh", dualStack))
	ips := c.Assigned(t, "fresh", 2)
	owners := c.Owners(t, ips...)
	flooded, later := c.flood(t), time.Now().Add(7*time.Second) // when what every new owner announces is over
	for _, ip := range ips {
		eventually(t, 20*time.Second, func() error {
			if n := len(flooded.announcements(ip, later, owners[ip])); n < 3 {
				return fmt.Errorf("%s has announced %s %d times after the first seven seconds, want three", owners[ip], ip, n)
			}
			return nil
		})
	}
}
