package bench

import (
	"net/url"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	for request, want := range map[string]string{
		"GET /api/v1/services?limit=500":                                               "list services",
		"GET /api/v1/services?watch=true&resourceVersion=1":                            "watch services",
		"GET /api/v1/namespaces/default/services/web":                                  "get services",
		"PATCH /api/v1/namespaces/default/services/web/status?fieldManager=x":          "patch services/status",
		"GET /api/v1/namespaces":                                                       "list namespaces",
		"GET /api/v1/namespaces/default":                                               "get namespaces",
		"POST /apis/events.k8s.io/v1/namespaces/default/events":                        "post events",
		"PUT /apis/lanyard.dev/v1beta1/ipallocationrecords/ipv4-10-78-0-0":             "put ipallocationrecords",
		"PUT /apis/coordination.k8s.io/v1/namespaces/lanyard-system/leases/controller": "put leases",
		"GET /apis/lanyard.dev/v1beta1":                                                "get apis",
		"GET /readyz":                                                                  "get readyz",
	} {
		method, path, _ := strings.Cut(request, " ")
		u, err := url.Parse("https://10.77.0.2:6443" + path)
		if err != nil {
			t.Fatal(err)
		}
		if have := describe(method, u); have != want {
			t.Errorf("%s is %q, want %q", request, have, want)
		}
	}
}

// TestTraffic: what came between two times, without what daemons ask whether or not anything happens.
func TestTraffic(t *testing.T) {
	m := &meter{traffic: traffic{}}
	m.add("patch services/status", count{requests: 1, sent: 10})
	before := m.now()
	m.add("patch services/status", count{requests: 2, sent: 20, received: 5})
	m.add("put leases", count{requests: 9, sent: 900})
	m.add("watch services", count{received: 7})
	d := m.now().since(before)
	if asked, told := d.sum(asking...), d.sum("watch"); asked != (count{2, 20, 5}) || told != (count{received: 7}) {
		t.Errorf("asked %+v, watched %+v", asked, told)
	}
}
