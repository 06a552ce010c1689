package lab

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// kubeProxyConfig holds two departures from a usual cluster: changes are applied after 0.1 s instead of 1 s, so that tests
// are quick, and the conntrack limits are left alone, for they belong to the machine and not to a namespace.
const kubeProxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %[1]s
hostnameOverride: %[2]s
clientConnection: {kubeconfig: %[3]s, qps: 200, burst: 400}
clusterCIDR: %[4]s,%[5]s
detectLocalMode: ClusterCIDR
bindAddress: 0.0.0.0
healthzBindAddress: 0.0.0.0:10256
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: 0
nftables: {minSyncPeriod: 100ms, syncPeriod: 30s}
iptables: {minSyncPeriod: 100ms, syncPeriod: 30s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`

// startKubeProxy starts a node's kube-proxy.
func (l *own) startKubeProxy(node, kubeconfig string) error {
	path := filepath.Join(l.stateDir, "kube-proxy-"+node+".yaml")
	config := fmt.Sprintf(kubeProxyConfig, l.opts.Proxy, node, kubeconfig, PodCIDR4, PodCIDR6)
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return fmt.Errorf("write the configuration of kube-proxy: %w", err)
	}
	_, err := l.Start(node, ProcessOptions{Name: "kube-proxy", Path: l.program("controlplane"), Argv0: "kube-proxy",
		Args: []string{"--config=" + path}})
	return err
}

// waitKubeProxy waits until kube-proxy has written its rules.
func (l *own) waitKubeProxy(ctx context.Context, node string) error {
	h := l.Host(node)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: h.DialContext, DisableKeepAlives: true}}
	return l.Process(node, "kube-proxy").waitAlive(ctx, "not ready", time.Minute, func() bool {
		response, err := client.Get("http://127.0.0.1:10256/livez")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
}
