// Package kube is the only place that talks to the API server: it watches objects and hands them to the
// loops, and writes statuses, conditions and events for them. The objects that it hands out are shared with
// its caches and must not be modified.
package kube
