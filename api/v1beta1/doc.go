// Package v1beta1 holds the API types of the group lanyard.dev, version v1beta1: what users write
// (IPAddressPool, IPReservation, L2Advertisement) and what Lanyard reports on them, in IPAllocationRecord and in
// ServiceL2Status.
//
// +kubebuilder:object:generate=true
// +groupName=lanyard.dev
package v1beta1
