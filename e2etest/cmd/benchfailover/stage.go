package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// bench is the stage of all trials: one Service with an address of each family that n1 and n2 may own, and its backend on
// n3, which nothing is done to. So what clients miss is for want of an owner, and not of a backend.
type bench struct {
	*lab.Lab
	ips []netip.Addr
}

const (
	client      = "c1"
	backendNode = "n3"
	patience    = 30 * time.Second // for what has no figure: getting ready, healing
)

const objects = `apiVersion: lanyard.dev/v1beta1
kind: IPAddressPool
metadata: {name: bench}
spec: {addresses: [10.77.0.200, "fd77::200"]}
---
apiVersion: lanyard.dev/v1beta1
kind: L2Advertisement
metadata: {name: bench}
spec: {ipAddressPools: [bench], nodeSelectors: [{matchLabels: {bench: owner}}]}
---
apiVersion: v1
kind: Service
metadata: {name: bench}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: bench}
  ports: [{name: echo, port: 7, protocol: UDP}]
`

// prepare installs the product and waits until both addresses are assigned and all speakers ready.
func (b *bench) prepare(ctx context.Context, flags []string) error {
	if err := b.InstallProduct(ctx); err != nil {
		return err
	}
	if _, err := b.StartController(ctx, "cp", "controller"); err != nil {
		return err
	}
	for _, node := range b.Nodes() {
		if node != backendNode {
			patch := []byte(`{"metadata":{"labels":{"bench":"owner"}}}`)
			if _, err := b.Client().CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
				return err
			}
		}
		if _, err := b.StartSpeaker(ctx, node, flags...); err != nil {
			return err
		}
	}
	if err := b.RunPod(ctx, backendNode, "bench", map[string]string{"app": "bench"}); err != nil {
		return err
	}
	if err := b.Apply(ctx, objects); err != nil {
		return err
	}
	if err := await(ctx, func() error { return b.assigned(ctx) }); err != nil {
		return err
	}
	return b.together(ctx)
}

func (b *bench) assigned(ctx context.Context) error {
	s, err := b.Client().CoreV1().Services("default").Get(ctx, "bench", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if b.ips = labtest.Ingress(s); len(b.ips) != 2 {
		return fmt.Errorf("the Service has the addresses %v, want two", b.ips)
	}
	return nil
}

// together waits until every speaker is ready and sees all others.
func (b *bench) together(ctx context.Context) error {
	for _, node := range b.Nodes() {
		err := await(ctx, func() error {
			alive, err := b.Metric(ctx, node, `lanyard_speaker_members{state="alive"}`)
			if err == nil && int(alive) != len(b.Nodes()) {
				err = fmt.Errorf("%s sees %v speakers", node, alive)
			}
			if err == nil {
				err = b.Ready(ctx, node)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// owner waits until one node alone answers for an address, and names it.
func (b *bench) owner(ctx context.Context, ip netip.Addr) (owner string, err error) {
	err = await(ctx, func() error {
		answers, err := b.WhoHas(client, ip, 200*time.Millisecond)
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
