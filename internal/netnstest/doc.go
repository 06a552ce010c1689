// Package netnstest gives tests private network namespaces, joined by virtual cables and switches, so that
// they can meet the real kernel without touching the machine's own network. Only tests import it.
package netnstest
