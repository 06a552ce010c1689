package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPoolStatus is what the controller reports on a pool, and what speakers found out about its addresses.
type IPAddressPoolStatus struct {
	// conditions of the pool. Ready is True when the pool as it is written now is in force; otherwise reason and
	// message say why not, and whether an earlier version stays in force. AddressesLeftOut is True when some of
	// its addresses are never handed out because they are an address of a node, part of a Service or pod
	// CIDR, or a network, broadcast or anycast address of a subnet; the message lists them. Conflict is True
	// while the pool overlaps another one; the message names both.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// ipv4 counts the IPv4 addresses of the pool. Absent when it has none.
	//
	// +optional
	IPv4 *AddressCounts `json:"ipv4,omitempty"`

	// ipv6 counts the IPv6 addresses of the pool. Absent when it has none.
	//
	// +optional
	IPv6 *AddressCounts `json:"ipv6,omitempty"`

	// holders are the Services and reservations that hold addresses of the pool, by address, then by kind and
	// name: the first 50 of them. An address that several share is listed once for each.
	//
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	// +optional
	Holders []PoolHolder `json:"holders,omitempty"`

	// moreHolders is how many there are beyond those listed.
	//
	// +kubebuilder:validation:Minimum=0
	// +optional
	MoreHolders int32 `json:"moreHolders,omitempty"`

	// quarantined are addresses of the pool that are not handed out because a stranger on the LAN uses them.
	// Speakers write the list, check each address again and again, and take it off once the stranger is gone.
	//
	// +kubebuilder:validation:MaxItems=100
	// +listType=map
	// +listMapKey=address
	// +optional
	Quarantined []QuarantinedAddress `json:"quarantined,omitempty"`
}

// QuarantinedAddress is an address that a stranger on the LAN uses.
type QuarantinedAddress struct {
	// address that the stranger uses.
	//
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be a single address"
	// +required
	Address string `json:"address"`

	// mac of the stranger, as in 02:00:5e:10:00:01.
	//
	// +kubebuilder:validation:MaxLength=17
	// +kubebuilder:validation:Pattern=`^([0-9a-f]{2}:){5}[0-9a-f]{2}$`
	// +required
	MAC string `json:"mac"`

	// interface of the node that the stranger was heard on.
	//
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Interface string `json:"interface,omitempty"`

	// node that heard the stranger last.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Node string `json:"node,omitempty"`

	// since when the stranger has been known to use the address.
	//
	// +required
	Since metav1.Time `json:"since"`

	// checked is when the stranger was heard last.
	//
	// +required
	Checked metav1.Time `json:"checked"`

	// held says that a Service of this cluster was being announced with the address when the stranger came:
	// it keeps the address.
	//
	// +optional
	Held bool `json:"held,omitempty"`
}

// Count is a number of addresses in decimal digits: text, for there may be up to 2^128.
//
// +kubebuilder:validation:Pattern=`^(0|[1-9][0-9]*)$`
// +kubebuilder:validation:MaxLength=39
type Count string

// AddressCounts counts the addresses of one family of a pool.
type AddressCounts struct {
	// total is how many addresses can be handed out: those of spec.addresses without what is excluded or left
	// out.
	Total Count `json:"total"`

	// assigned is how many of them Services and reservations hold. An address that is shared counts once.
	Assigned Count `json:"assigned"`

	// available is how many of them are free: total without those assigned, retained or quarantined.
	Available Count `json:"available"`

	// quarantined is how many of them are not handed out because a stranger on the LAN uses them.
	Quarantined Count `json:"quarantined"`
}

// PoolHolder is a Service or an IPReservation that holds an address of a pool. Where a Service has taken an
// address from a reservation, both are named.
//
// +kubebuilder:validation:XValidation:rule="has(self.service) || has(self.reservation)",message="must name a Service or a reservation"
type PoolHolder struct {
	// address that is held.
	//
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address"`

	// service that holds the address, as namespace/name.
	//
	// +kubebuilder:validation:MaxLength=317
	// +optional
	Service string `json:"service,omitempty"`

	// reservation that holds the address, as namespace/name.
	//
	// +kubebuilder:validation:MaxLength=317
	// +optional
	Reservation string `json:"reservation,omitempty"`
}
