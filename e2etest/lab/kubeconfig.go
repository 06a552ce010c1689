package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// apiURL is where the lab's own API server listens, for every host of the lab.
var apiURL = fmt.Sprintf("https://%s:6443", Addr4(0, controlPlaneNumber))

// Kubeconfig is the path of an administrator's kubeconfig. It works from any host of the lab, not from outside.
func (l *Lab) Kubeconfig() string { return l.kubeconfigPath("admin") }

func (l *Lab) kubeconfigPath(name string) string {
	return filepath.Join(l.stateDir, name+".kubeconfig")
}

// KubeconfigFor writes a kubeconfig for a user in groups, known by client certificate, and returns its path. Writing it
// again for the same user replaces it.
func (l *Lab) KubeconfigFor(user string, groups ...string) (string, error) {
	if l.pki == nil {
		return "", fmt.Errorf("write a kubeconfig of %s: the lab has not the certificate authority of its cluster", user)
	}
	cert, key, err := l.pki.client(user, groups...)
	if err != nil {
		return "", err
	}
	name := strings.NewReplacer(":", "-", "/", "-").Replace(user)
	return l.writeKubeconfig(name, &api.AuthInfo{ClientCertificateData: cert, ClientKeyData: key})
}

// ServiceAccountKubeconfig writes a kubeconfig that holds a token of a service account, good for a day.
func (l *Lab) ServiceAccountKubeconfig(ctx context.Context, namespace, account string) (string, error) {
	day := int64(24 * 3600)
	request := &authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &day}}
	token, err := l.Client().CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("make a token for service account %s/%s: %w", namespace, account, err)
	}
	return l.writeKubeconfig(namespace+"-"+account, &api.AuthInfo{Token: token.Status.Token})
}

func (l *Lab) writeKubeconfig(name string, who *api.AuthInfo) (string, error) {
	config := api.NewConfig()
	config.Clusters["lab"] = l.cluster
	config.AuthInfos["lab"] = who
	config.Contexts["lab"] = &api.Context{Cluster: "lab", AuthInfo: "lab"}
	config.CurrentContext = "lab"
	path := l.kubeconfigPath(name)
	written := path + ".new" // whoever reads it meanwhile sees all of it
	err := clientcmd.WriteToFile(*config, written)
	// The product reads it as nobody. It opens nothing but this lab.
	if err = errors.Join(err, os.Chmod(written, 0o644)); err == nil {
		err = os.Rename(written, path)
	}
	if err != nil {
		return "", fmt.Errorf("write kubeconfig of %s: %w", name, err)
	}
	return path, nil
}

// RESTConfig is an administrator's access to the API server from this process: its connections are made inside the
// control plane's namespace. It is a copy; change it at will.
func (l *Lab) RESTConfig() *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig())
	if err != nil {
		panic(fmt.Sprintf("lab %s has no cluster: %v", l.Prefix, err))
	}
	config.Dial = l.Host(controlPlane).DialContext
	config.QPS, config.Burst = -1, 0
	return config
}

// Client is a typed client for the API server, with an administrator's rights and no rate limit.
func (l *Lab) Client() kubernetes.Interface { return l.clients().typed }

// Dynamic is the same for any kind.
func (l *Lab) Dynamic() dynamic.Interface { return l.clients().dynamic }

type clients struct {
	typed   kubernetes.Interface
	dynamic dynamic.Interface
}

// makeClients is called once per lab, for every client made holds connections of its own.
func (l *Lab) makeClients() clients {
	config := l.RESTConfig()
	return clients{kubernetes.NewForConfigOrDie(config), dynamic.NewForConfigOrDie(config)}
}

// apiAddresses are the names of the API server in its certificate.
func apiAddresses() []net.IP {
	return []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.ParseIP("10.96.0.1"), net.ParseIP("fd96::1"),
		Addr4(0, controlPlaneNumber).AsSlice(), Addr6(0, controlPlaneNumber).AsSlice()}
}
