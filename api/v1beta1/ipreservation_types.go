package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPReservationSpec says which addresses to hold.
//
// +kubebuilder:validation:XValidation:rule="has(self.addresses) && self.addresses.size() > 0 || has(self.ipv4) && self.ipv4 > 0 || has(self.ipv6) && self.ipv6 > 0",message="must ask for something: addresses, or a number of ipv4 or ipv6 addresses from a pool"
// +kubebuilder:validation:XValidation:rule="!(has(self.ipv4) && self.ipv4 > 0 || has(self.ipv6) && self.ipv6 > 0) || has(self.pool) && size(self.pool) > 0",message="a number of ipv4 or ipv6 addresses needs a pool to take them from"
type IPReservationSpec struct {
	// addresses to hold: single addresses of either family that pools contain, of any pool. One that somebody
	// else has is held as soon as it is free.
	//
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:XValidation:rule="isIP(self)",message="must be a single address"
	// +listType=set
	// +optional
	Addresses []string `json:"addresses,omitempty"`

	// pool that ipv4 and ipv6 are taken from, by name.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Pool string `json:"pool,omitempty"`

	// ipv4 is how many IPv4 addresses to hold of the pool, beside addresses. Default: 0. They are chosen once
	// and kept; a lower number lets go of those that no Service uses.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	// +optional
	IPv4 *int32 `json:"ipv4,omitempty"`

	// ipv6 is how many IPv6 addresses to hold of the pool, beside addresses. Default: 0. They are chosen once
	// and kept; a lower number lets go of those that no Service uses.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	// +optional
	IPv6 *int32 `json:"ipv6,omitempty"`
}

// IPReservationStatus is what the controller reports on a reservation.
type IPReservationStatus struct {
	// conditions: Ready is True when all that is asked for is held; otherwise reason and message say what is
	// missing and why.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// held lists the addresses that are held, in the order of addresses below.
	//
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=45
	// +listType=atomic
	// +optional
	Held []string `json:"held,omitempty"`

	// addresses that are held, each with its pool and who uses it: those asked for by name first, in the
	// order of spec.addresses, then the others by address.
	//
	// +kubebuilder:validation:MaxItems=128
	// +listType=atomic
	// +optional
	Addresses []ReservedAddress `json:"addresses,omitempty"`
}

// ReservedAddress is one address that a reservation holds.
type ReservedAddress struct {
	// address that is held.
	//
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address"`

	// pool that contains the address. Empty when none does any more.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Pool string `json:"pool,omitempty"`

	// service that uses the address now, by its name in the reservation's namespace. Of several that share the
	// address, the first by name. Empty when it is free to use.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Service string `json:"service,omitempty"`
}

// IPReservation holds addresses for the Services of its namespace, whether or not one uses them. A Service
// takes its addresses from it by the annotation lanyard.dev/reservation; after it is deleted, a new one that
// names the reservation is given the same addresses. Deleting a reservation takes nothing from the Services
// that use it: they keep their addresses as if they had been given them by the pool.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=ipres,categories=lanyard
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.held`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPReservation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec IPReservationSpec `json:"spec"`
	// +optional
	Status IPReservationStatus `json:"status,omitempty"`
}

// IPReservationList is a list of reservations.
//
// +kubebuilder:object:root=true
type IPReservationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPReservation `json:"items"`
}
