package allocation

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// change is a step in making or editing a Service.
type change func(*corev1.Service)

func annotation(key, value string) change {
	return func(s *corev1.Service) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[key] = value
		if value == "" {
			delete(s.Annotations, key)
		}
	}
}

// asking for addresses, a pool, a reservation or a sharing key by the annotations of Lanyard's own.
func addresses(list string) change   { return annotation("lanyard.dev/addresses", list) }
func fromPool(list string) change    { return annotation("lanyard.dev/pool", list) }
func reservation(name string) change { return annotation("lanyard.dev/reservation", name) }
func sharing(key string) change      { return annotation("lanyard.dev/sharing-key", key) }

func labelled(key, value string) change {
	return func(s *corev1.Service) { s.Labels = map[string]string{key: value} }
}

func port(number int32) change {
	return func(s *corev1.Service) { s.Spec.Ports = []corev1.ServicePort{{Port: number}} }
}

func selecting(app string) change {
	return func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": app} }
}

func local(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func toCluster(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
}

func clusterIP(s *corev1.Service) {
	s.Spec.Type, s.Spec.LoadBalancerClass, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeClusterIP, nil, ""
	s.Spec.AllocateLoadBalancerNodePorts = nil
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].NodePort = 0
	}
}

func class(name string) change {
	return func(s *corev1.Service) {
		s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, &name
	}
}

func policy(p corev1.IPFamilyPolicy, families ...corev1.IPFamily) change {
	return func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = &p
		if len(families) > 0 {
			s.Spec.IPFamilies = families
		}
	}
}

func prefer(families ...corev1.IPFamily) change {
	return policy(corev1.IPFamilyPolicyPreferDualStack, families...)
}

func require(families ...corev1.IPFamily) change {
	return policy(corev1.IPFamilyPolicyRequireDualStack, families...)
}

const (
	four = corev1.IPv4Protocol
	six  = corev1.IPv6Protocol
)

// singleStack leaves a Service one family.
func singleStack(f corev1.IPFamily) change {
	return func(s *corev1.Service) {
		p := corev1.IPFamilyPolicySingleStack
		s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &p, []corev1.IPFamily{f}
		if len(s.Spec.ClusterIPs) > 1 {
			s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1]
		}
	}
}

// service makes a Service of type LoadBalancer for port 80 that lasts until the test ends.
func (c *cluster) service(t *testing.T, name string, changes ...change) {
	t.Helper()
	must(t, c.createService(within(t, 10*time.Second), name, changes...))
	afterwards(t, func(ctx context.Context) error { return c.remove(ctx, "Service", name) })
}

func (c *cluster) createService(ctx context.Context, name string, changes ...change) error {
	namespace, short := split(name)
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: short}}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	s.Spec.Selector = map[string]string{"app": "web"}
	for _, f := range changes {
		f(s)
	}
	_, err := c.Client().CoreV1().Services(namespace).Create(ctx, s, metav1.CreateOptions{})
	return err
}

// edit changes a Service the way a user does.
func (c *cluster) edit(t *testing.T, name string, changes ...change) {
	t.Helper()
	namespace, short := split(name)
	services := c.Client().CoreV1().Services(namespace)
	must(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		s, err := services.Get(within(t, 10*time.Second), short, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, f := range changes {
			f(s)
		}
		_, err = services.Update(within(t, 10*time.Second), s, metav1.UpdateOptions{})
		return err
	}))
}

// writeStatus has somebody else write a Service's load-balancer status.
func (c *cluster) writeStatus(t *testing.T, name string, ips ...string) {
	t.Helper()
	namespace, short := split(name)
	services := c.Client().CoreV1().Services(namespace)
	must(t, retry.RetryOnConflict(retry.DefaultRetry, func() error {
		s, err := services.Get(within(t, 10*time.Second), short, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s.Status.LoadBalancer.Ingress = nil
		for _, ip := range ips {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
		}
		_, err = services.UpdateStatus(within(t, 10*time.Second), s, metav1.UpdateOptions{})
		return err
	}))
}

func (c *cluster) read(t *testing.T, name string) *corev1.Service {
	t.Helper()
	namespace, short := split(name)
	s, err := c.Client().CoreV1().Services(namespace).Get(within(t, 10*time.Second), short, metav1.GetOptions{})
	must(t, err)
	return s
}

// conditionOf is the condition that the controller writes on a Service, or nil.
func conditionOf(s *corev1.Service) *metav1.Condition {
	return meta.FindStatusCondition(s.Status.Conditions, "lanyard.dev/IPAssigned")
}

// show prints what a Service has: its addresses in order, then status and reason of its condition.
func show(s *corev1.Service) string {
	words := ingress(s)
	if condition := conditionOf(s); condition != nil {
		words = append(words, string(condition.Status), condition.Reason)
	}
	return strings.Join(words, " ")
}

// ingress lists the addresses in a Service's status, in order.
func ingress(s *corev1.Service) (ips []string) {
	for _, i := range s.Status.LoadBalancer.Ingress {
		ips = append(ips, i.IP+i.Hostname)
	}
	return ips
}

// expect waits until a Service has what show prints.
func (c *cluster) expect(t *testing.T, name, want string) {
	t.Helper()
	eventually(t, patience, func() error { return c.has(t, name, want) })
}

// keeps sees to it that a Service has what show prints, all the time for a while.
func (c *cluster) keeps(t *testing.T, name, want string) {
	t.Helper()
	throughout(t, 400*time.Millisecond, func() error { return c.has(t, name, want) })
}

func (c *cluster) has(t *testing.T, name, want string) error {
	s := c.read(t, name)
	if have := show(s); have != want {
		message := ""
		if condition := conditionOf(s); condition != nil {
			message = condition.Message
		}
		return fmt.Errorf("Service %s has %q, want %q; its condition says %q", name, have, want, message)
	}
	return nil
}

// says waits until a Service's condition has a reason and a message with all of the words.
func (c *cluster) says(t *testing.T, name, reason string, words ...string) {
	t.Helper()
	eventually(t, patience, func() error {
		condition := conditionOf(c.read(t, name))
		if condition == nil || condition.Reason != reason {
			return fmt.Errorf("Service %s has the condition %+v, want the reason %s", name, condition, reason)
		}
		for _, w := range words {
			if !strings.Contains(condition.Message, w) {
				return fmt.Errorf("Service %s: the message %q does not have %q", name, condition.Message, w)
			}
		}
		return nil
	})
}

// pool makes an IPAddressPool with a spec in YAML's flow style, without the braces, and waits until it is in force.
func (c *cluster) pool(t *testing.T, name, spec string) {
	t.Helper()
	c.apply(t, poolYAML(name, spec))
	c.judged(t, "IPAddressPool", name, "Ready", "True InForce")
}

func poolYAML(name, spec string) string {
	return fmt.Sprintf("apiVersion: lanyard.dev/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

// reserve makes an IPReservation, in the same way, and waits until it holds what it asks for.
func (c *cluster) reserve(t *testing.T, name, spec string) {
	t.Helper()
	c.apply(t, reservationYAML(name, spec))
	c.judged(t, "IPReservation", name, "Ready", "True Assigned")
}

func reservationYAML(name, spec string) string {
	namespace, short := split(name)
	return fmt.Sprintf("apiVersion: lanyard.dev/v1beta1\nkind: IPReservation\nmetadata: {name: %s, namespace: %s}\nspec: {%s}\n", short, namespace, spec)
}

// conditioned is the part of an object of Lanyard's own that tells how it fares.
type conditioned struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Status   struct {
		Conditions []metav1.Condition `json:"conditions"`
		Held       []string           `json:"held"`
	} `json:"status"`
}

// judged waits until a condition of an object has the status and reason, as in "True InForce", for the object as it is
// now, and returns its message.
func (c *cluster) judged(t *testing.T, kind, name, condition, want string) string {
	t.Helper()
	var found *metav1.Condition
	eventually(t, patience, func() error {
		var have conditioned
		if err := c.get(t, kind, name, &have); err != nil {
			return err
		}
		found = meta.FindStatusCondition(have.Status.Conditions, condition)
		if found == nil || string(found.Status)+" "+found.Reason != want || found.ObservedGeneration != have.Metadata.Generation {
			return fmt.Errorf("%s %s (generation %d) has %s %+v, want %s", kind, name, have.Metadata.Generation, condition, found, want)
		}
		return nil
	})
	return found.Message
}

// holds waits until a reservation holds the addresses.
func (c *cluster) holds(t *testing.T, name, want string) {
	t.Helper()
	eventually(t, patience, func() error {
		var have conditioned
		if err := c.get(t, "IPReservation", name, &have); err != nil {
			return err
		}
		if held := strings.Join(have.Status.Held, " "); held != want {
			return fmt.Errorf("reservation %s holds %q, want %q (%+v)", name, held, want, have.Status.Conditions)
		}
		return nil
	})
}

// deleteLater asks for the deletion of an object without waiting.
func (c *cluster) deleteLater(t *testing.T, kind, name string) {
	t.Helper()
	client, short := c.resource(kind, name)
	must(t, ignoreGone(client.Delete(within(t, 10*time.Second), short, metav1.DeleteOptions{})))
}
