package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/record"
)

// TestRecordsClient: records are written whole and answered for with metadata alone; refusals are told as what they are.
func TestRecordsClient(t *testing.T) {
	var asked []string
	answer, status := "", 200
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var o v1beta1.IPAllocationRecord
		if err := json.Unmarshal(body, &o); err != nil {
			t.Error(err)
		}
		asked = append(asked, fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header.Get("Content-Type"), " ", o.Kind, " ", o.ResourceVersion, " ", len(o.Allocations)))
		if r.Header.Get("Accept") != metadataOnly {
			t.Errorf("the answer may be %s", r.Header.Get("Accept"))
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	scheme := runtime.NewScheme()
	if err := v1beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api, err := apiutil.RESTClientForGVK(v1beta1.GroupVersion.WithKind("IPAllocationRecord"), false, false,
		&rest.Config{Host: server.URL}, serializer.NewCodecFactory(scheme), server.Client())
	if err != nil {
		t.Fatal(err)
	}
	c := recordsClient{rest: api}
	block := record.New(record.BlockOf(ip("10.0.0.1")))
	if _, err := block.Apply(record.Hold(ip("10.0.0.1"), holder("a"), "lan", noon)); err != nil {
		t.Fatal(err)
	}
	fresh := func() *v1beta1.IPAllocationRecord {
		o := block.Encode()
		o.ResourceVersion = "4"
		return o
	}
	const path = "/apis/lanyard.dev/v1beta1/ipallocationrecords"
	answer = `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"x","uid":"u","resourceVersion":"5"}}`
	for i, call := range []func(o *v1beta1.IPAllocationRecord) error{
		func(o *v1beta1.IPAllocationRecord) error { return c.Create(t.Context(), o) },
		func(o *v1beta1.IPAllocationRecord) error { return c.Update(t.Context(), o) },
	} {
		o := fresh()
		if err := call(o); err != nil || o.ResourceVersion != "5" || o.UID != "u" || len(o.Allocations) != 1 {
			t.Errorf("%v; the object is %+v", err, o)
		}
		want := []string{"POST " + path, "PUT " + path + "/" + fresh().Name}[i] + " application/json IPAllocationRecord 4 1"
		if asked[i] != want {
			t.Errorf("asked for %s, want %s", asked[i], want)
		}
	}
	for _, tc := range []struct {
		status int
		reason string
		is     func(error) bool
	}{
		{409, "Conflict", apierrors.IsConflict},
		{409, "AlreadyExists", apierrors.IsAlreadyExists},
		{404, "NotFound", apierrors.IsNotFound},
		{500, "InternalError", apierrors.IsInternalError},
		{200, "", func(err error) bool { return err != nil }}, // a proxy's page
	} {
		status = tc.status
		answer = fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":%q,"code":%d}`, tc.reason, tc.status)
		if err := c.Update(t.Context(), fresh()); !tc.is(err) {
			t.Errorf("status %d %s gives %v", tc.status, tc.reason, err)
		}
	}
}
