package suite

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// leaseTime is how long a new leader may have to wait for the lease of one that died, which lasts 15 s, and then some.
const leaseTime = 40 * time.Second

// TestControllerRestart: whatever becomes of controllers, Services keep their addresses and nothing is written twice.
func TestControllerRestart(t *testing.T) {
	t.Parallel()
	c := install(t, lab.Options{Nodes: -1, Clients: -1})
	c.Pool(t, "lan", "[10.20.0.1-10.20.0.7, fd20::1-fd20::7]")
	r := &restarts{cluster: c}
	for i := range 3 {
		c.Create(t, serviceYAML(fmt.Sprint("web-", i), dualStack))
		r.services = append(r.services, fmt.Sprint("web-", i))
		c.Assigned(t, fmt.Sprint("web-", i), 2)
	}
	for i := range 2 {
		c.Create(t, serviceYAML(fmt.Sprint("preferring-", i), "ipFamilyPolicy: PreferDualStack", "ipFamilies: [IPv6, IPv4]"))
		r.services = append(r.services, fmt.Sprint("preferring-", i))
		c.Assigned(t, fmt.Sprint("preferring-", i), 2)
	}
	t.Run("terminated", func(t *testing.T) { r.restart(t, (*lab.Process).Term) })
	t.Run("what happens meanwhile", r.meanwhile)
	t.Run("killed", func(t *testing.T) { r.restart(t, (*lab.Process).Kill) })
	t.Run("the standby takes over", r.standby)
}

type restarts struct {
	*cluster
	services []string
}

// versions are the resource versions of all Services, which are the same if nobody wrote, and the pool's conditions; the
// rest of its status counts addresses.
func (r *restarts) versions(t *testing.T) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, name := range r.services {
		s := r.Service(t, name)
		versions[name] = fmt.Sprint(s.ResourceVersion, " ", ingress(s))
	}
	pool, err := r.Resource("IPAddressPool").Get(within(t, 10*time.Second), "lan", metav1.GetOptions{})
	must(t, err)
	conditions, _, err := unstructured.NestedSlice(pool.Object, "status", "conditions")
	must(t, err)
	versions["pool"] = fmt.Sprint(conditions)
	return versions
}

// unchanged checks that all versions are as before.
func (r *restarts) unchanged(t *testing.T, before map[string]string) {
	t.Helper()
	throughout(t, time.Second, func() error {
		for name, version := range r.versions(t) {
			if version != before[name] {
				return fmt.Errorf("%s was %s and is %s now", name, before[name], version)
			}
		}
		return nil
	})
}

// serves checks that a new Service is served, with addresses that nobody else has, and takes it away again.
func (r *restarts) serves(t *testing.T, name string) {
	t.Helper()
	r.Create(t, serviceYAML(name, dualStack))
	eventually(t, leaseTime, func() error {
		if len(ingress(r.Service(t, name))) != 2 {
			return errors.New("the new Service has no addresses")
		}
		return nil
	})
	r.distinct(t, name)
}

// distinct checks that the addresses of one Service are those of no other.
func (r *restarts) distinct(t *testing.T, name string) {
	t.Helper()
	holder := map[netip.Addr]string{}
	for _, service := range append([]string{name}, r.services...) {
		for _, ip := range ingress(r.Service(t, service)) {
			if other, held := holder[ip]; held {
				t.Errorf("%s and %s both have %s", other, service, ip)
			}
			holder[ip] = service
		}
	}
}

// restart ends the controller and starts it again.
func (r *restarts) restart(t *testing.T, end func(*lab.Process) error) {
	before := r.versions(t)
	controller := r.Process("cp", "controller")
	must(t, end(controller))
	_, err := controller.Wait(within(t, 20*time.Second))
	must(t, err)
	must(t, controller.Restart())
	begun := time.Now()
	r.serves(t, "new")
	t.Logf("the first new Service was served %v after the restart", time.Since(begun).Round(time.Millisecond))
	r.unchanged(t, before)
}

// meanwhile: what was created, deleted and changed while no controller ran is caught up with.
func (r *restarts) meanwhile(t *testing.T) {
	r.Create(t, serviceYAML("doomed"))
	doomed := r.Address(t, "doomed")
	r.Create(t, serviceYAML("demoted"))
	demoted := r.Address(t, "demoted")
	before := r.versions(t)
	controller := r.Process("cp", "controller")
	t.Cleanup(func() {
		if !controller.Alive() {
			_ = controller.Restart()
		}
	})
	must(t, controller.Term())
	exit, err := controller.Wait(within(t, 20*time.Second))
	must(t, err)
	if exit != nil {
		t.Errorf("the controller ended with %v:\n%s", exit, controller.LogTail(5))
	}
	r.Delete(t, "Service", "doomed")
	r.Patch(t, "Service", "demoted", `{"spec":{"type":"ClusterIP"}}`)
	r.Create(t, serviceYAML("heir-1"))
	r.Create(t, serviceYAML("heir-2"))
	must(t, controller.Restart())
	heirs := map[netip.Addr]bool{r.Address(t, "heir-1"): true, r.Address(t, "heir-2"): true}
	if !heirs[doomed] || !heirs[demoted] {
		t.Errorf("the new Services have %v, want %s and %s, which are free", heirs, doomed, demoted)
	}
	eventually(t, 5*time.Second, func() error {
		if s := r.Service(t, "demoted").Status; len(s.LoadBalancer.Ingress)+len(s.Conditions) > 0 {
			return fmt.Errorf("the Service that is a ClusterIP now has the status %+v", s)
		}
		return nil
	})
	r.unchanged(t, before)
}

// standby: of two controllers one serves; when it dies, the other does.
func (r *restarts) standby(t *testing.T) {
	lab.Need(t, lab.PlacedControllers)
	before := r.versions(t)
	leader := r.Process("cp", "controller")
	second, err := r.StartController(within(t, 10*time.Second), "cp", "controller-2", "--metrics-bind-address=:7572", "--health-probe-bind-address=:7573")
	must(t, err)
	afterwards(t, func(context.Context) error { return errors.Join(second.Kill(), leader.Restart()) })
	held := r.holder(t)

	// While the leader holds the lease and still, nobody serves, for the other does not.
	must(t, leader.Freeze())
	t.Cleanup(func() { _ = leader.Thaw() })
	r.Create(t, serviceYAML("waiting", dualStack))
	throughout(t, 3*time.Second, func() error {
		if status := r.Service(t, "waiting").Status; len(status.Conditions) > 0 {
			return fmt.Errorf("the standby wrote %+v", status)
		}
		return nil
	})
	must(t, leader.Thaw())
	r.Assigned(t, "waiting", 2)
	if now := r.holder(t); now != held {
		t.Fatalf("the lease went from %s to %s", held, now)
	}

	must(t, leader.Kill())
	begun := time.Now()
	r.serves(t, "new")
	t.Logf("the standby served a new Service %v after the leader's death", time.Since(begun).Round(time.Millisecond))
	if now := r.holder(t); now == held {
		t.Errorf("the lease is still %s's", now)
	}
	r.distinct(t, "waiting")
	r.unchanged(t, before)
}

// holder is who holds the controllers' lease.
func (r *restarts) holder(t *testing.T) string {
	t.Helper()
	lease, err := r.Client().CoordinationV1().Leases(lab.Namespace).Get(within(t, 10*time.Second), "lanyard-controller", metav1.GetOptions{})
	must(t, err)
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}
