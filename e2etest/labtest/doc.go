// Package labtest is what the suites of tests in the lab have in common: a cluster with the product installed, its objects, the
// answers that clients on the LAN get, and waiting for what must come, with a deadline.
package labtest
