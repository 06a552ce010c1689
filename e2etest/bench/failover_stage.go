package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// Stage is where owners of addresses are taken away: one Service with an address of each family that n1 and n2 may own, and
// its backend on n3, which nothing is done to. So what clients miss is for want of an owner, and not of a backend.
type Stage struct {
	*Site
	ips []netip.Addr
}

const (
	client      = "c1"
	backendNode = "n3"
	patience    = 30 * time.Second // for what has no figure: getting ready, healing
)

// NewStage builds a lab of three nodes, with kube-proxies, and waits until both addresses are assigned and all speakers are
// ready. The speakers get flags beside those of the implementation. Down removes it.
func NewStage(ctx context.Context, i *Implementation, out io.Writer, flags ...string) (*Stage, error) {
	s, err := NewSite(ctx, i, lab.Options{Nodes: 3, Clients: 1, Out: out})
	if err != nil {
		return nil, err
	}
	stage := &Stage{Site: s}
	if err := stage.prepare(ctx, flags); err != nil {
		return nil, errors.Join(s.explain(err, controlPlane, "controller"), s.Down())
	}
	return stage, nil
}

func (s *Stage) prepare(ctx context.Context, flags []string) error {
	if _, err := s.StartController(ctx); err != nil {
		return err
	}
	for _, node := range s.Nodes() {
		if _, err := s.StartSpeaker(ctx, node, flags...); err != nil {
			return err
		}
	}
	if err := s.RunPod(ctx, backendNode, "bench", map[string]string{"app": "bench"}); err != nil {
		return err
	}
	if err := s.Pools(ctx, []string{"10.77.0.200/32", "fd77::200/128"}, "n1", "n2"); err != nil {
		return err
	}
	dual := corev1.IPFamilyPolicyRequireDualStack
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "bench"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer,
		IPFamilyPolicy: &dual, Selector: map[string]string{"app": "bench"},
		Ports: []corev1.ServicePort{{Name: "echo", Port: lab.EchoPort, Protocol: corev1.ProtocolUDP}}}}
	if _, err := s.Client.CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := await(ctx, func() error { return s.assigned(ctx) }); err != nil {
		return err
	}
	return s.together(ctx)
}

func (s *Stage) assigned(ctx context.Context) error {
	service, err := s.Client.CoreV1().Services(namespace).Get(ctx, "bench", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if s.ips = labtest.Ingress(service); len(s.ips) != 2 {
		return fmt.Errorf("the Service has the addresses %v, want two", s.ips)
	}
	return nil
}

// together waits until every speaker is ready and sees all others.
func (s *Stage) together(ctx context.Context) error {
	speaker := s.Implementation.Speaker
	for _, node := range s.Nodes() {
		if err := s.WaitReady(ctx, node, speaker, patience); err != nil {
			return err
		}
		if speaker.Members == "" {
			continue
		}
		err := await(ctx, func() error {
			alive, err := s.Metric(ctx, node, speaker.Members)
			if err == nil && int(alive) != len(s.Nodes()) {
				err = fmt.Errorf("%s sees %v speakers", node, alive)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if speaker.Members == "" {
		return pass(ctx, unknown)
	}
	return nil
}

// unknown is how long speakers are given to find each other that do not tell whether they have.
const unknown = 10 * time.Second

// owner waits until one node alone answers for an address, and names it.
func (s *Stage) owner(ctx context.Context, ip netip.Addr) (owner string, err error) {
	err = await(ctx, func() error {
		answers, err := s.WhoHas(client, ip, 200*time.Millisecond)
		if err == nil && (len(answers) != 1 || answers[0].Host == "") {
			err = fmt.Errorf("%s is answered by %v, want one node", ip, answers)
		}
		if err == nil {
			owner = answers[0].Host
		}
		return err
	})
	return owner, err
}

func await(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return labtest.Poll(ctx, f)
}
