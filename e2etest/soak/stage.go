package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"

	"github.com/lanyard-lb/lanyard/e2etest/agent"
	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// The hosts of the stage: four nodes, two clients that ask, a stranger, and beside the control plane a host for the
// other controller.
const (
	nodeCount    = 4
	clientCount  = 4
	strangerHost = "c3"
	controller   = "controller"

	otherNamespace = "team"
	otherClass     = "example.com/other"
	zoneLabel      = "soak/zone"
)

var (
	askers          = []string{"c1", "c2"}
	controllerHosts = []string{"cp", "c4"}
)

type resource = schema.GroupVersionResource

// errSkip is why a deed could not be done that another one has overtaken: a pool that still waits for its last holder.
var errSkip = errors.New("skipped")

// Stage is the lab with all that is done to it.
type Stage struct {
	lab      *lab.Lab
	troubles *Troubles
	history  *History

	mu      sync.Mutex
	resting map[string]bool // programs that are not to run, by host
}

// raise builds the lab and installs the product.
func raise(ctx context.Context, o Options, out io.Writer) (*Stage, error) {
	l, err := lab.Up(ctx, lab.Options{Nodes: nodeCount, Clients: clientCount, ProductDir: o.ProductDir, Out: out})
	if err != nil {
		return nil, err
	}
	s := &Stage{lab: l, troubles: NewTroubles(l.Nodes(), time.Now()), resting: map[string]bool{}}
	if err := s.install(ctx); err != nil {
		return nil, errors.Join(err, l.Down())
	}
	return s, nil
}

func (s *Stage) install(ctx context.Context) error {
	if err := s.lab.InstallProduct(ctx); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: otherNamespace}}
	if _, err := s.lab.Client().CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	for _, host := range controllerHosts {
		if _, err := s.lab.StartController(ctx, host, controller); err != nil {
			return err
		}
	}
	for _, node := range s.lab.Nodes() {
		if _, err := s.lab.StartSpeaker(ctx, node, "--conflict-recheck=2s"); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stage) speaker(node string) *lab.Process { return s.lab.Process(node, "speaker") }

func (s *Stage) rest(host string, resting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting[host] = resting
}

// programs are those of the product, by host.
func (s *Stage) programs() map[string]*lab.Process {
	all := map[string]*lab.Process{}
	for _, host := range controllerHosts {
		all[host] = s.lab.Process(host, controller)
	}
	for _, node := range s.lab.Nodes() {
		all[node] = s.speaker(node)
	}
	return all
}

// revive starts what has ended by itself, as a kubelet would, and names it.
func (s *Stage) revive() (ended []*lab.Process, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for host, p := range s.programs() {
		if !p.Alive() && !s.resting[host] {
			ended = append(ended, p)
			err = errors.Join(err, p.Restart())
		}
	}
	return ended, err
}

// What deeds do.

func (s *Stage) loseSpeaker(node string, how func(*lab.Process) error) error {
	s.rest(node, true)
	return how(s.speaker(node))
}

func (s *Stage) startSpeaker(node string) error {
	err := s.ended(s.speaker(node))
	defer s.rest(node, false)
	return errors.Join(err, s.speaker(node).Restart())
}

// ended waits until a process that was told to stop has ended.
func (s *Stage) ended(p *lab.Process) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	_, err := p.Wait(ctx)
	return err
}

func (s *Stage) loseController(i int, kill bool) error {
	s.troubles.Touch(time.Now())
	s.rest(controllerHosts[i], true)
	p := s.lab.Process(controllerHosts[i], controller)
	if kill {
		return p.Kill()
	}
	if err := p.Term(); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil // it had lost its lease just now
}

func (s *Stage) startController(i int) error {
	p := s.lab.Process(controllerHosts[i], controller)
	err := s.ended(p)
	defer s.rest(controllerHosts[i], false)
	defer func() { s.troubles.Touch(time.Now()) }()
	return errors.Join(err, p.Restart())
}

func (s *Stage) stopAPI() error {
	s.troubles.StopAPI(time.Now())
	return s.lab.StopAPIServer()
}

func (s *Stage) startAPI(ctx context.Context) error {
	err := s.lab.StartAPIServer(ctx)
	s.troubles.StartAPI(time.Now())
	return err
}

func (s *Stage) squat(ip netip.Addr, loud bool) error {
	s.troubles.Squat(ip, time.Now())
	err := s.lab.Squat(strangerHost, ip)
	if err == nil && loud {
		err = s.lab.Proclaim(strangerHost, ip)
	}
	return err
}

func (s *Stage) unsquat(ip netip.Addr) error {
	err := s.lab.Unsquat(strangerHost, ip)
	s.troubles.Unsquat(ip, time.Now())
	return err
}

func (s *Stage) createService(ctx context.Context, namespace, name string, edits []edit) error {
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	o.Spec.Type = corev1.ServiceTypeLoadBalancer
	for _, e := range edits {
		e(o)
	}
	_, err := s.lab.Client().CoreV1().Services(namespace).Create(ctx, o, metav1.CreateOptions{})
	return err
}

func (s *Stage) editService(ctx context.Context, namespace, name string, edits []edit) error {
	services := s.lab.Client().CoreV1().Services(namespace)
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		o, err := services.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, e := range edits {
			e(o)
		}
		_, err = services.Update(ctx, o, metav1.UpdateOptions{})
		if err != nil && strings.Contains(err.Error(), "duplicate nodePort") {
			return errSkip // the API server has given a new port the node port that an old one keeps
		}
		return err
	})
}

func (s *Stage) deleteService(ctx context.Context, namespace, name string) error {
	return s.lab.Client().CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
}

func (s *Stage) objects(of resource, namespace string) dynamic.ResourceInterface {
	if namespace == "" {
		return s.lab.Dynamic().Resource(of)
	}
	return s.lab.Dynamic().Resource(of).Namespace(namespace)
}

func (s *Stage) create(ctx context.Context, of resource, kind, namespace, name string, spec map[string]any) error {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "lanyard.dev/v1beta1", "kind": kind,
		"metadata": map[string]any{"name": name}, "spec": spec}}
	_, err := s.objects(of, namespace).Create(ctx, o, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("%w: the last one is still going", errSkip)
	}
	return err
}

func (s *Stage) patch(ctx context.Context, of resource, namespace, name string, by map[string]any) error {
	raw, err := (&unstructured.Unstructured{Object: by}).MarshalJSON()
	if err != nil {
		return err
	}
	_, err = s.objects(of, namespace).Patch(ctx, name, types.MergePatchType, raw, metav1.PatchOptions{})
	return overtaken(err)
}

func (s *Stage) delete(ctx context.Context, of resource, namespace, name string) error {
	return overtaken(s.objects(of, namespace).Delete(ctx, name, metav1.DeleteOptions{}))
}

func overtaken(err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: it was not made again", errSkip)
	}
	return err
}

func (s *Stage) patchNode(ctx context.Context, node, patch string) error {
	_, err := s.lab.Client().CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

func (s *Stage) labelNode(ctx context.Context, node, key, value string) error {
	return s.patchNode(ctx, node, fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, key, value))
}

func (s *Stage) cordon(ctx context.Context, node string, on bool) error {
	return s.patchNode(ctx, node, fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, on))
}

// exclude keeps a node from announcing by a label or a taint, or lets it again.
func (s *Stage) exclude(ctx context.Context, node, how string, out bool) error {
	if how == "label" {
		value := "null"
		if out {
			value = `"true"`
		}
		return s.patchNode(ctx, node, fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, corev1.LabelNodeExcludeBalancers, value))
	}
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := s.lab.Client().CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == autoscalerTaint })
		if out {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: autoscalerTaint, Value: "soak", Effect: corev1.TaintEffectNoSchedule})
		}
		_, err = s.lab.Client().CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{})
		return err
	})
}

func split(full string) (namespace, name string) {
	namespace, name, _ = strings.Cut(full, "/")
	return namespace, name
}

// createPod does not wait for the pod to run, as its node may be off the LAN.
func (s *Stage) createPod(ctx context.Context, full, node, app string, ready bool) error {
	namespace, name := split(full)
	grace, no := int64(2), false
	o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": app},
		Annotations: map[string]string{agent.ReadyAnnotation: strconv.FormatBool(ready)}},
		Spec: corev1.PodSpec{NodeName: node, TerminationGracePeriodSeconds: &grace, AutomountServiceAccountToken: &no,
			Containers: []corev1.Container{{Name: "backend", Image: "lab/backend"}}}}
	_, err := s.lab.Client().CoreV1().Pods(namespace).Create(ctx, o, metav1.CreateOptions{})
	return err
}

func (s *Stage) deletePod(ctx context.Context, full string) error {
	namespace, name := split(full)
	return overtaken(s.lab.Client().CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
}

func (s *Stage) readyPod(ctx context.Context, full string, ready bool) error {
	namespace, name := split(full)
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"%t"}}}`, agent.ReadyAnnotation, ready)
	_, err := s.lab.Client().CoreV1().Pods(namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return overtaken(err)
}

const autoscalerTaint = "ToBeDeletedByClusterAutoscaler"

func portsText(list []string) string { return strings.Join(list, ",") }

func splitPort(text string) (int32, corev1.Protocol) {
	number, protocol, _ := strings.Cut(text, "/")
	n, _ := strconv.Atoi(number) // the plan writes numbers
	return int32(n), corev1.Protocol(protocol)
}

// What is looked at.

// roll asks for all addresses from a client, and once more for those that nobody answered for, as kernels do.
func (s *Stage) roll(host string, ips []netip.Addr, again func(netip.Addr) bool) (map[netip.Addr][]string, error) {
	answers := map[netip.Addr][]string{}
	ask := func(list []netip.Addr) error {
		heard, err := s.lab.RollCall(host, list, rollPatience)
		for _, ip := range list {
			answers[ip] = []string{}
			for _, a := range heard[ip] {
				name := a.Host
				if name == "" {
					name = a.MAC.String()
				}
				if !slices.Contains(answers[ip], name) {
					answers[ip] = append(answers[ip], name)
				}
			}
			slices.Sort(answers[ip])
		}
		return err
	}
	if err := ask(ips); err != nil {
		return nil, err
	}
	var silent []netip.Addr
	for _, ip := range ips {
		if len(answers[ip]) == 0 && again(ip) {
			silent = append(silent, ip)
		}
	}
	if len(silent) == 0 {
		return answers, nil
	}
	return answers, ask(silent)
}

// rollPatience is how long an answer may take.
const rollPatience = 250 * time.Millisecond

// holders are what the allocation records say: see Rest.
func (s *Stage) holders(ctx context.Context) (map[netip.Addr][]string, error) {
	list, err := s.lab.Dynamic().Resource(recordsResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	all := map[netip.Addr][]string{}
	for i := range list.Items {
		var record struct {
			Allocations []struct {
				Address netip.Addr
				Holders []struct{ Kind, Namespace, Name string }
			}
		}
		if err := decode(&list.Items[i], &record); err != nil {
			return nil, err
		}
		for _, a := range record.Allocations {
			all[a.Address] = []string{}
			for _, h := range a.Holders {
				name := h.Namespace + "/" + h.Name
				if h.Kind == "IPReservation" {
					name += "*"
				}
				all[a.Address] = append(all[a.Address], name)
			}
		}
	}
	return all, nil
}

// macs are those of the nodes.
func (s *Stage) macs() (map[string]string, error) {
	all := map[string]string{}
	for _, node := range s.lab.Nodes() {
		mac, err := s.lab.Host(node).NIC("eth0").MAC()
		if err != nil {
			return nil, err
		}
		all[node] = mac.String()
	}
	return all, nil
}

// together is an error unless every speaker is ready and sees all others, and one controller leads.
func (s *Stage) together(ctx context.Context) (faults []string) {
	for _, node := range s.lab.Nodes() {
		alive, err := s.lab.Metric(ctx, node, `lanyard_speaker_members{state="alive"}`)
		if err == nil && int(alive) != nodeCount {
			err = fmt.Errorf("%s sees %v speakers", node, alive)
		}
		if err == nil {
			err = s.lab.Ready(ctx, node)
		}
		if err != nil {
			faults = append(faults, err.Error())
		}
	}
	leaders := 0.0
	for _, host := range controllerHosts {
		leads, err := s.lab.Metric(ctx, host, "lanyard_controller_leading")
		if err != nil {
			faults = append(faults, err.Error())
		}
		leaders += leads
	}
	if leaders != 1 {
		faults = append(faults, fmt.Sprintf("%v controllers lead", leaders))
	}
	return faults
}

// onNICs are addresses of pools that a node has on its interfaces, where none must be.
func (s *Stage) onNICs(universe []netip.Addr) (faults []string) {
	for _, node := range s.lab.Nodes() {
		out, err := s.lab.Host(node).Exec(context.Background(), "ip", "-oneline", "address", "show")
		if err != nil {
			faults = append(faults, err.Error())
		}
		for _, ip := range universe {
			if strings.Contains(out, " "+ip.String()+"/") {
				faults = append(faults, fmt.Sprintf("%s has %s on an interface", node, ip))
			}
		}
	}
	return faults
}
