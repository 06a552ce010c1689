package controller

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// busy is a world of many Services that have addresses of one of three pools, and of 500 nodes.
func busy(b *testing.B, services int) *world {
	w := newWorld(b)
	w.step = time.Microsecond
	w.pools("lan: 10.0.0.0/16", "small: 10.1.0.0/24", "six: fd00::/112")
	for i := range 500 {
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("node", i)}}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.77.%d.%d", i/250, i%250)}}
		w.objects.Nodes = append(w.objects.Nodes, n)
	}
	for i := range 100 {
		w.objects.Namespaces = append(w.objects.Namespaces, corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("ns", i)}})
	}
	for i := range services {
		name := types.NamespacedName{Namespace: "default", Name: fmt.Sprint("old", i)}
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, UID: types.UID(name.Name),
			CreationTimestamp: metav1.NewTime(w.now())}}
		s.Spec.Type, s.Spec.IPFamilies = corev1.ServiceTypeLoadBalancer, []corev1.IPFamily{corev1.IPv4Protocol}
		w.services[name] = s
		w.touch(s)
	}
	w.most = 10*services + 100
	w.start("")
	if got := w.pool("lan").Status.IPv4.Assigned; string(got) != fmt.Sprint(services) {
		b.Fatalf("%s addresses are assigned, want %d", got, services)
	}
	return w
}

// BenchmarkServiceEvent is one change of a Service while there are many: until the Service, the pools and all that
// changed with them have been worked on, the report of the pools included.
func BenchmarkServiceEvent(b *testing.B) {
	for _, services := range []int{100, 10_000} {
		b.Run(fmt.Sprint("services=", services), func(b *testing.B) {
			w := busy(b, services)
			for _, event := range []struct {
				name   string
				before func()
				change func(i int)
			}{
				{"create", func() {}, func(i int) { w.apply(fmt.Sprint("new", i)) }},
				{"edit", func() {}, func(i int) {
					w.apply("old7", func(s *corev1.Service) { s.Annotations = map[string]string{"example.com/edit": fmt.Sprint(i)} })
				}},
				{"move", func() {}, func(i int) {
					w.apply("old8", func(s *corev1.Service) {
						s.Annotations = map[string]string{"lanyard.dev/addresses": fmt.Sprintf("10.0.%d.7", 200+i%2)}
					})
				}},
				{"delete", func() { w.apply("old7") }, func(int) { w.delete("old7") }},
			} {
				b.Run(event.name, func(b *testing.B) {
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						b.StopTimer()
						event.before()
						w.events = nil
						b.StartTimer()
						event.change(i)
					}
				})
			}
		})
	}
}

// BenchmarkStart is a controller that starts while all Services wait: until all have been worked on. The API server
// takes no time here.
func BenchmarkStart(b *testing.B) {
	for _, services := range []int{2000, 10_000} {
		b.Run(fmt.Sprint("services=", services), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				busy(b, services)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*services), "µs/service")
		})
	}
}
