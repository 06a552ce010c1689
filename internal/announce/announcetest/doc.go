// Package announcetest is the contract that every announcer passes, in every world it can be run in: a
// fake one, where time costs nothing, and a real one.
package announcetest
