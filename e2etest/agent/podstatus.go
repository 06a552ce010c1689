package agent

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReadyAnnotation on a pod, set to "false", makes the agent report it not ready. Its backend serves on.
const ReadyAnnotation = "lab.lanyard.dev/ready"

// setPodStatus brings a pod's status to that of a running pod and tells whether anything changed.
func setPodStatus(pod *corev1.Pod, node [2]netip.Addr, ips []string) (changed bool) {
	ready := corev1.ConditionTrue
	if pod.Annotations[ReadyAnnotation] == "false" {
		ready = corev1.ConditionFalse
	}
	s := &pod.Status
	if s.Phase != corev1.PodRunning {
		changed = true
		now := metav1.Now()
		s.Phase, s.StartTime = corev1.PodRunning, &now
		s.HostIP, s.HostIPs = node[0].String(), []corev1.HostIP{{IP: node[0].String()}, {IP: node[1].String()}}
		s.PodIP, s.PodIPs = ips[0], []corev1.PodIP{{IP: ips[0]}, {IP: ips[1]}}
	}
	for kind, status := range map[corev1.PodConditionType]corev1.ConditionStatus{corev1.PodScheduled: corev1.ConditionTrue,
		corev1.PodInitialized: corev1.ConditionTrue, corev1.ContainersReady: ready, corev1.PodReady: ready} {
		changed = setPodCondition(s, kind, status) || changed
	}
	if changed {
		s.ContainerStatuses = containerStatuses(pod, ready == corev1.ConditionTrue)
	}
	return changed
}

func setPodCondition(s *corev1.PodStatus, kind corev1.PodConditionType, status corev1.ConditionStatus) bool {
	wanted := corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: metav1.Now()}
	for i := range s.Conditions {
		if s.Conditions[i].Type != kind {
			continue
		}
		if s.Conditions[i].Status == status {
			return false
		}
		s.Conditions[i] = wanted
		return true
	}
	s.Conditions = append(s.Conditions, wanted)
	return true
}

func containerStatuses(pod *corev1.Pod, ready bool) []corev1.ContainerStatus {
	started := true
	var all []corev1.ContainerStatus
	for _, c := range pod.Spec.Containers {
		all = append(all, corev1.ContainerStatus{Name: c.Name, Image: c.Image, Ready: ready, Started: &started,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}})
	}
	return all
}
