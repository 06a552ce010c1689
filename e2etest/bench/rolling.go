package bench

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// large is a Service with many pods.
type large struct {
	site *Site

	mu     sync.Mutex
	slices []*discoveryv1.EndpointSlice
}

// grow gives a Service many pods on a node.
func (s *Site) grow(ctx context.Context, name, node string) (*large, error) {
	l := &large{site: s}
	for i := range sliceCount {
		slice := endpoints(name, fmt.Sprintf("%s-%d", name, i), node, perSlice, i)
		if _, err := s.Client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
			return nil, fmt.Errorf("create EndpointSlice %s: %w", slice.Name, err)
		}
		l.slices = append(l.slices, slice)
	}
	return l, nil
}

// replace replaces the i-th pod by one with another name and address.
func (l *large) replace(ctx context.Context, i int) error {
	if err := l.update(ctx, i); err != nil {
		return fmt.Errorf("replace pod %d: %w", i, err)
	}
	return nil
}

// update writes one slice at a time: they are few.
func (l *large) update(ctx context.Context, i int) error {
	l.mu.Lock()
	slice := l.slices[i/perSlice%sliceCount].DeepCopy()
	n := sliceCount*perSlice + i
	endpoint := &slice.Endpoints[i%perSlice]
	endpoint.Addresses = []string{netip.AddrFrom4([4]byte{10, 245, byte(n >> 8), byte(n)}).String()}
	endpoint.TargetRef.Name = fmt.Sprintf("%s-%07d", slice.Labels[discoveryv1.LabelServiceName], n)
	l.slices[i/perSlice%sliceCount] = slice
	l.mu.Unlock()
	_, err := l.site.Client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, slice, metav1.UpdateOptions{})
	return err
}
