package lab

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd/api"
)

const (
	etcdURL       = "http://127.0.0.1:2379"
	etcdPeerURL   = "http://127.0.0.1:2380"
	apiServerName = "kube-apiserver"
)

// program is the path of one of the lab's own binaries.
func (l *Lab) program(name string) string { return filepath.Join(l.opts.binDir, name) }

// startControlPlane starts etcd and the API server together, and the controller manager once the API answers.
func (l *own) startControlPlane(ctx context.Context) error {
	var err error
	if l.pki, err = newPKI(filepath.Join(l.stateDir, "pki"), apiAddresses()); err != nil {
		return err
	}
	l.cluster = &api.Cluster{Server: apiURL, CertificateAuthorityData: l.pki.caPEM}
	admin, err := l.KubeconfigFor("admin", "system:masters")
	if err != nil {
		return err
	}
	if err := l.startKubernetes("etcd", l.etcdArgs()); err != nil {
		return err
	}
	if err := l.startKubernetes(apiServerName, l.apiServerArgs()); err != nil {
		return err
	}
	if err := l.waitAPIServer(ctx); err != nil {
		return err
	}
	return l.startKubernetes("kube-controller-manager", l.controllerManagerArgs(admin))
}

func (l *own) startKubernetes(name string, args []string) error {
	_, err := l.Start(controlPlane, ProcessOptions{Name: name, Path: l.program("controlplane"), Argv0: name, Args: args})
	return err
}

// waitAPIServer waits until the API server calls itself ready.
func (l *Lab) waitAPIServer(ctx context.Context) error {
	config := l.RESTConfig()
	transport, err := rest.TransportFor(config)
	if err != nil {
		return fmt.Errorf("wait for the API server: %w", err)
	}
	client := &http.Client{Transport: transport, Timeout: 2 * time.Second}
	return l.Process(controlPlane, apiServerName).waitAlive(ctx, "not ready", 2*time.Minute, func() bool {
		response, err := client.Get(config.Host + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}

func (l *own) etcdArgs() []string {
	return []string{"--name=lab", "--data-dir=" + l.dataDir,
		"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=" + etcdPeerURL, "--initial-advertise-peer-urls=" + etcdPeerURL,
		"--initial-cluster=lab=" + etcdPeerURL, "--unsafe-no-fsync", "--log-level=warn"}
}

func (l *own) apiServerArgs() []string {
	return []string{"--etcd-servers=" + etcdURL,
		"--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address=" + Addr4(0, controlPlaneNumber).String(),
		"--cert-dir=" + l.pki.dir, "--client-ca-file=" + l.pki.path("ca.crt"),
		"--tls-cert-file=" + l.pki.path("apiserver.crt"), "--tls-private-key-file=" + l.pki.path("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + l.pki.path("service-accounts.key"),
		"--service-account-signing-key-file=" + l.pki.path("service-accounts.key"),
		"--service-cluster-ip-range=" + ServiceCIDR4 + "," + ServiceCIDR6,
		"--authorization-mode=Node,RBAC", "--allow-privileged",
		// Pods of the lab mount no tokens, and can so be made before their namespace has its default account.
		"--disable-admission-plugins=ServiceAccount", "--profiling=false"}
}

// controllers are those that the lab needs: endpoints for Services, nodes' health, and what cleans up and what owns pods.
var controllers = []string{"endpointslice-controller", "endpointslice-mirroring-controller", "endpoints-controller",
	"node-lifecycle-controller", "taint-eviction-controller", "pod-garbage-collector-controller",
	"namespace-controller", "garbage-collector-controller", "serviceaccount-controller",
	"root-ca-certificate-publisher-controller", "clusterrole-aggregation-controller",
	"deployment-controller", "replicaset-controller", "daemonset-controller", "service-cidr-controller"}

func (l *own) controllerManagerArgs(kubeconfig string) []string {
	return []string{"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0",
		"--service-account-private-key-file=" + l.pki.path("service-accounts.key"),
		"--root-ca-file=" + l.pki.path("ca.crt"), "--allocate-node-cidrs=false",
		"--controllers=" + strings.Join(controllers, ","),
		"--node-monitor-period=500ms", "--node-monitor-grace-period=" + l.opts.NodeGracePeriod.String(),
		"--kube-api-qps=500", "--kube-api-burst=1000", "--profiling=false"}
}
