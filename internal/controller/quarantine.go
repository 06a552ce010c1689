package controller

import (
	"fmt"
	"net/netip"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/ipam"
	"github.com/lanyard-lb/lanyard/internal/kube"
)

// strangers reads from the statuses of the pools which addresses strangers on the LAN use, as the speakers
// have found out. What cannot be read is left out.
func strangers(pools []v1beta1.IPAddressPool) map[netip.Addr]ipam.Stranger {
	all := map[netip.Addr]ipam.Stranger{}
	for _, p := range pools {
		for _, q := range p.Status.Quarantined {
			ip, err := netip.ParseAddr(q.Address)
			if err != nil {
				continue
			}
			s := ipam.Stranger{Known: q.MAC, Held: q.Held || all[ip.Unmap()].Held}
			if q.Node != "" {
				s.Known += ", heard by " + q.Node
			}
			all[ip.Unmap()] = s
		}
	}
	return all
}

// tellFled says of the addresses that a Service has just let go because of a stranger why it did.
func (c *Controller) tellFled(s *corev1.Service, d ipam.Decision) {
	kept := map[netip.Addr]bool{}
	for _, ip := range d.IPs() {
		kept[ip] = true
	}
	for _, ip := range kube.IngressIPs(s) {
		c.mu.Lock()
		stranger, bad := c.ledger.Stranger(ip)
		c.mu.Unlock()
		if !bad || stranger.Held || kept[ip] {
			continue
		}
		note := fmt.Sprintf("%s is let go: a stranger on the LAN uses it (%s)", ip, stranger.Known)
		_ = level.Warn(c.Logger).Log("msg", "let go what a stranger uses", "service", s.Namespace+"/"+s.Name, "ip", ip, "stranger", stranger.Known)
		c.Event(s, corev1.EventTypeWarning, string(ipam.Quarantined), "AssignAddress", note)
	}
}
