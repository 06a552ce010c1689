package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lanyard-lb/lanyard/e2etest/backend"
)

// backendImage is the name of the image of cmd/backend, without its tag.
const backendImage = imageRegistry + "/backend"

// pod runs the backend in a container. Its readiness probe asks every second, and believes the first answer.
func (k *onKind) pod(p Pod) *corev1.Pod {
	object := p.object(backendImage + ":" + k.installs.tag)
	root, fieldEnv := int64(0), func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	c := &object.Spec.Containers[0]
	c.ImagePullPolicy = corev1.PullNever
	c.Args = []string{fmt.Sprintf("--unready=%t", p.Unready)}
	c.Env = []corev1.EnvVar{fieldEnv("POD_NAME", "metadata.name"), fieldEnv("NODE_NAME", "spec.nodeName")}
	c.SecurityContext = &corev1.SecurityContext{RunAsUser: &root} // its ports are below 1024
	c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1, SuccessThreshold: 1, TimeoutSeconds: 2,
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(backend.ReadyPort)}}}
	return object
}

// setPodReady tells the backend what to answer the probe.
func (k *onKind) setPodReady(ctx context.Context, namespace, name string, ready bool) error {
	pod, err := k.Client().CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return fmt.Errorf("its address: %w", err)
	}
	url := fmt.Sprintf("http://%s/%t", netip.AddrPortFrom(ip, backend.ReadyPort), ready)
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: k.Host(controlPlane).DialContext, DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return errors.Join(err, response.Body.Close())
}
