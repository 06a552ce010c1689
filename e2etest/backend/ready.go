package backend

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
)

// ReadyPort is where a backend in a container serves its readiness probe, and whence a test changes it.
const ReadyPort = 8080

// Readiness answers GET / with 200 or 503, and PUT /true and PUT /false change which.
type Readiness struct{ ready atomic.Bool }

// NewReadiness begins ready or not.
func NewReadiness(ready bool) *Readiness {
	r := &Readiness{}
	r.ready.Store(ready)
	return r
}

func (r *Readiness) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.Method == http.MethodPut {
		ready, err := strconv.ParseBool(request.URL.Path[1:])
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.ready.Store(ready)
		return
	}
	if !r.ready.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, "ready:", r.ready.Load())
}
