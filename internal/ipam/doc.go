// Package ipam decides which Service gets which address. It is pure: pools and requests go in, decisions
// come out, each with a reason; it knows neither Kubernetes nor clocks or loggers. The Ledger is the one
// place where "who holds what" is known; the controller carries its decisions out.
package ipam
