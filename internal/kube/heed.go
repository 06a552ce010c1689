package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
)

// reconfigures reports whether a change of an object, as the caches keep it, may make another configuration for the
// controller: not the beats of a Node's heart, nor how full a pool is. Nothing is left out that Configure judges.
func reconfigures(before, after client.Object) bool {
	if before == nil || after == nil {
		return true
	}
	return !equality.Semantic.DeepEqual(configured(before), configured(after))
}

// configured is the part of an object that counts for the configuration.
func configured(o client.Object) client.Object {
	switch o := o.(type) {
	case *corev1.Node: // who is alive is the speakers' business
		n := &corev1.Node{ObjectMeta: trimMeta(o.ObjectMeta)}
		n.Spec.PodCIDR, n.Spec.PodCIDRs, n.Status.Addresses = o.Spec.PodCIDR, o.Spec.PodCIDRs, o.Status.Addresses
		return unversioned(n)
	case *v1beta1.IPAddressPool:
		p := &v1beta1.IPAddressPool{ObjectMeta: trimMeta(o.ObjectMeta), Spec: o.Spec}
		p.Status.Quarantined = o.Status.Quarantined
		if ready := meta.FindStatusCondition(o.Status.Conditions, v1beta1.ConditionReady); ready != nil {
			p.Status.Conditions = []metav1.Condition{{Status: ready.Status, ObservedGeneration: ready.ObservedGeneration}}
		}
		return unversioned(p)
	case *corev1.Namespace:
		return unversioned(&corev1.Namespace{ObjectMeta: trimMeta(o.ObjectMeta)})
	}
	return o
}

func unversioned(o client.Object) client.Object {
	o.SetResourceVersion("")
	return o
}
