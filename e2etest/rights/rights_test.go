package rights

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

const (
	speaker = "system:serviceaccount:lanyard-system:lanyard-speaker"
	log     = `{"stage":"RequestReceived","verb":"get","user":{"username":"` + speaker + `"},"objectRef":{"resource":"nodes","name":"n1"}}
{"stage":"ResponseComplete","verb":"get","user":{"username":"` + speaker + `"},"objectRef":{"resource":"nodes","name":"n1"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","verb":"get","user":{"username":"` + speaker + `"},"objectRef":{"resource":"nodes","name":"n2"},"responseStatus":{"code":404}}
{"stage":"ResponseStarted","verb":"watch","user":{"username":"` + speaker + `"},"objectRef":{"resource":"services"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","verb":"patch","user":{"username":"` + speaker + `"},"objectRef":{"resource":"services","subresource":"status","namespace":"a","name":"web"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","verb":"get","user":{"username":"` + speaker + `"},"objectRef":{"resource":"leases","apiGroup":"coordination.k8s.io","namespace":"lanyard-system","name":"mine"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","verb":"get","user":{"username":"` + speaker + `"},"objectRef":{"resource":"leases","apiGroup":"coordination.k8s.io","namespace":"other","name":"mine"},"responseStatus":{"code":403}}
{"stage":"ResponseComplete","verb":"get","user":{"username":"` + speaker + `"},"requestURI":"/apis","responseStatus":{"code":200}}
{"stage":"ResponseComplete","verb":"delete","user":{"username":"somebody"},"objectRef":{"resource":"nodes","name":"n1"},"responseStatus":{"code":200}}
`
)

func TestCompare(t *testing.T) {
	everywhere, err := Granted([]rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes", "services"}, Verbs: []string{"get", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"services/status"}, Verbs: []string{"patch"}},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	here, err := Granted([]rbacv1.PolicyRule{{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"},
		Verbs: []string{"get"}, ResourceNames: []string{"mine"}}}, "lanyard-system")
	if err != nil {
		t.Fatal(err)
	}
	used, err := Used(strings.NewReader(log), speaker)
	if err != nil {
		t.Fatal(err)
	}
	got := Table(Compare(append(everywhere, here...), used))
	want := `WHERE           GROUP                RESOURCE         VERB   ONLY  USED
everywhere      core                 nodes            get          2
everywhere      core                 nodes            watch        never
everywhere      core                 services         get          never
everywhere      core                 services         watch        1
everywhere      core                 services/status  patch        1
lanyard-system  coordination.k8s.io  leases           get    mine  1
other           coordination.k8s.io  leases           get          1 REFUSED
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFaults(t *testing.T) {
	for _, rule := range []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"*"}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"*"}},
		{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}},
	} {
		if _, err := Granted([]rbacv1.PolicyRule{rule}, ""); err == nil {
			t.Errorf("%v: no error", rule)
		}
	}
	if _, err := Used(strings.NewReader(speaker+"\n"), speaker); err == nil {
		t.Error("a line that is no JSON is no error")
	}
}
