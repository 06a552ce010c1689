package labtest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Service reads a Service.
func (c *Cluster) Service(t *testing.T, name string) *corev1.Service {
	t.Helper()
	s, err := c.Client().CoreV1().Services(metav1.NamespaceDefault).Get(Within(t, 10*time.Second), name, metav1.GetOptions{})
	Must(t, err)
	return s
}

// Ingress lists the addresses in a Service's status, in order.
func Ingress(s *corev1.Service) (ips []netip.Addr) {
	for _, i := range s.Status.LoadBalancer.Ingress {
		ip, _ := netip.ParseAddr(i.IP) // what is no address is the zero Addr, which no test expects
		ips = append(ips, ip)
	}
	return ips
}

// Assigned waits until a Service has n addresses and its condition says that this is all it asks for, and returns them.
func (c *Cluster) Assigned(t *testing.T, name string, n int) (ips []netip.Addr) {
	t.Helper()
	Eventually(t, 10*time.Second, func() error {
		s := c.Service(t, name)
		if ips = Ingress(s); len(ips) != n {
			return fmt.Errorf("Service %s has the addresses %v and the condition %v, want %d", name, ips, ConditionOf(s, IPAssigned), n)
		}
		return Is(s, metav1.ConditionTrue, "Assigned")
	})
	return ips
}

// Address is assigned for a Service of one family.
func (c *Cluster) Address(t *testing.T, name string) netip.Addr {
	t.Helper()
	return c.Assigned(t, name, 1)[0]
}

// Decided waits until the condition of a Service has a status and a reason.
func (c *Cluster) Decided(t *testing.T, name string, status metav1.ConditionStatus, reason string) (s *corev1.Service) {
	t.Helper()
	Eventually(t, 10*time.Second, func() error {
		s = c.Service(t, name)
		return Is(s, status, reason)
	})
	return s
}

// Is is an error unless the condition that the controller writes on a Service has a status and a reason.
func Is(s *corev1.Service, status metav1.ConditionStatus, reason string) error {
	condition := ConditionOf(s, IPAssigned)
	if condition == nil || condition.Status != status || condition.Reason != reason {
		return fmt.Errorf("Service %s has the addresses %v and the condition %v, want %s, %s", s.Name, Ingress(s), condition, status, reason)
	}
	return nil
}

// The conditions of a Service that the product writes: the controller the first, the speakers the second.
const (
	IPAssigned = "lanyard.dev/IPAssigned"
	Announced  = "lanyard.dev/Announced"
)

// ConditionOf is a condition of a Service, or nil.
func ConditionOf(s *corev1.Service, kind string) *metav1.Condition {
	return meta.FindStatusCondition(s.Status.Conditions, kind)
}

// conditioned is the part of an object of Lanyard's own that the suite reads.
type conditioned struct {
	Status struct {
		Conditions []metav1.Condition `json:"conditions"`
	} `json:"status"`
}

// Judged waits until the condition Ready of a pool or an advertisement has a status and a reason, and returns its message.
func (c *Cluster) Judged(t *testing.T, kind, name string, status metav1.ConditionStatus, reason string) string {
	t.Helper()
	var ready *metav1.Condition
	Eventually(t, 10*time.Second, func() (err error) {
		ready, err = c.Judgement(t, kind, name)
		if err == nil && (ready.Status != status || ready.Reason != reason) {
			err = fmt.Errorf("%s %s has Ready %v, want %s, %s", kind, name, ready, status, reason)
		}
		return err
	})
	return ready.Message
}

// Judgement is the condition Ready of a pool or an advertisement; it is an error if it is not about the object's present spec.
func (c *Cluster) Judgement(t *testing.T, kind, name string) (*metav1.Condition, error) {
	t.Helper()
	o, err := c.Resource(kind).Get(Within(t, 10*time.Second), name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	raw, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var have conditioned
	if err := json.Unmarshal(raw, &have); err != nil {
		return nil, err
	}
	ready := meta.FindStatusCondition(have.Status.Conditions, "Ready")
	if ready == nil || ready.ObservedGeneration != o.GetGeneration() {
		return nil, fmt.Errorf("%s %s, generation %d, has Ready %v", kind, name, o.GetGeneration(), ready)
	}
	return ready, nil
}
