package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAllocationRecord tells who holds and who held the addresses of one block of 64: an aligned IPv4 /26 or IPv6
// /122. The controller writes it, and it is what keeps two controllers from giving one address to two Services:
// the holder stands here before a status names the address, and until no status does any more. It is bounded:
// at most 64 addresses, each with at most 64 holders now and 5 before, so typically some 15 KB. Deleting a record
// loses the history, and who kept addresses of a deleted Service (spec.retain of its pool).
//
// The records are of the whole cluster: Lanyards that serve different classes of Services share them, as they
// share the pools. The record of ::/122, which no pool can have, tells which of them are in office.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=ipalloc,categories=lanyard
// +kubebuilder:printcolumn:name="Block",type=string,JSONPath=`.block`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAllocationRecord struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// block of addresses that the record is about, as a CIDR. The record's name follows from it.
	//
	// +kubebuilder:validation:MaxLength=49
	// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a CIDR"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cannot be changed"
	// +required
	Block string `json:"block"`

	// terms are those of the controllers that have written the record last: one for each class of Services.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=class
	// +optional
	Terms []ControllerTerm `json:"terms,omitempty"`

	// allocations of the block, by address: those that are held, and those that were. Always written as a whole.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Allocations []Allocation `json:"allocations,omitempty"`
}

// ControllerTerm is the time that one controller is in office for.
type ControllerTerm struct {
	// class of Services that the controller serves (its --lb-class); empty: those that name none.
	//
	// +kubebuilder:validation:MaxLength=253
	Class string `json:"class"`

	// epoch counts the controllers of the class that have come into office: a controller refuses to write a
	// record where the epoch of its class is above its own, for then another one has taken over.
	//
	// +kubebuilder:validation:Minimum=0
	// +optional
	Epoch int64 `json:"epoch,omitempty"`

	// writer names the process.
	//
	// +kubebuilder:validation:MaxLength=320
	// +optional
	Writer string `json:"writer,omitempty"`

	// renewed is when the controller was in office last. Only in the record of ::/122.
	//
	// +optional
	Renewed *metav1.Time `json:"renewed,omitempty"`
}

// Allocation tells who holds and held one address.
type Allocation struct {
	// address that this is about.
	//
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address"`

	// pool that the address was given from last.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Pool string `json:"pool,omitempty"`

	// holders of the address now, oldest first: one, or up to 64 of those that share it. Empty when it is free.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Holders []AllocationHolder `json:"holders,omitempty"`

	// released is when the last holder let go of the address. Absent while it is held.
	//
	// +optional
	Released *metav1.Time `json:"released,omitempty"`

	// previous holders, newest first: the last 5.
	//
	// +kubebuilder:validation:MaxItems=5
	// +listType=atomic
	// +optional
	Previous []PreviousHolder `json:"previous,omitempty"`
}

// HolderKind is the kind of object that holds an address.
//
// +kubebuilder:validation:Enum=Service;IPReservation
type HolderKind string

// The kinds of holders.
const (
	HolderService     HolderKind = "Service"
	HolderReservation HolderKind = "IPReservation"
)

// AllocationHolder is who holds an address.
type AllocationHolder struct {
	// kind of the holder: Service or IPReservation.
	Kind HolderKind `json:"kind"`

	// namespace of the holder.
	//
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// name of the holder.
	//
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// uid of the holder, which tells it from a later one of the same name.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	UID string `json:"uid,omitempty"`

	// class of the controller that the Service holds the address by; empty: that of Services that name none.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Class string `json:"class,omitempty"`

	// since when it has held the address, or when it was first seen to.
	Since metav1.Time `json:"since"`
}

// PreviousHolder is who held an address, and when.
type PreviousHolder struct {
	// kind of the holder: Service or IPReservation.
	Kind HolderKind `json:"kind"`

	// namespace of the holder.
	//
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`

	// name of the holder.
	//
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// pool that the address was given from.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Pool string `json:"pool,omitempty"`

	// from when it held the address.
	From metav1.Time `json:"from"`

	// to when it held the address.
	To metav1.Time `json:"to"`
}

// IPAllocationRecordList is a list of records.
//
// +kubebuilder:object:root=true
type IPAllocationRecordList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAllocationRecord `json:"items"`
}
