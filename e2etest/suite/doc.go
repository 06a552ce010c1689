// Package suite tests Lanyard as its users meet it: Services, pools and advertisements go in by a real API server, and what
// comes out is judged by clients on a LAN, by their kernels' own ARP and Neighbor Discovery and by traffic through real
// kube-proxies. It knows the product by its binaries, its manifests and the names in its API alone, and imports none of its
// packages.
//
// The tests of a file share a lab. Each has pools and addresses of its own and takes away what it made, so that each can
// be run alone: go test ./suite -run 'TestPlacement/the_exclusion_label'. Without root the tests are skipped.
package suite
