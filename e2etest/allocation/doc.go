// Package allocation shows on a real API server who gets which address, and why: controllers only, no speakers, for
// statuses tell. It covers what MetalLB's own end-to-end suite asserts on allocation, and goes on to what that does not
// dare: two controllers of which the leader is killed, frozen or cut off in the middle of a burst of Services.
package allocation
