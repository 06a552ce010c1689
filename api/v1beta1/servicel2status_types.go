package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ServiceL2StatusStatus tells how the addresses of one Service are announced on the LAN. The first fields sum up
// the announcements for kubectl get: each lists what differs among them, in their order, separated by commas: the
// first 8, and as in "+3" how many there are beyond.
type ServiceL2StatusStatus struct {
	// addresses of the Service.
	//
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	Addresses string `json:"addresses,omitempty"`

	// nodes that announce them, or are about to.
	//
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	Nodes string `json:"nodes,omitempty"`

	// interfaces of those nodes that they are announced on.
	//
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	Interfaces string `json:"interfaces,omitempty"`

	// macs that clients are told to send to: those of the interfaces.
	//
	// +kubebuilder:validation:MaxLength=4096
	// +optional
	MACs string `json:"macs,omitempty"`

	// protocols that the addresses are announced by: ARP for IPv4, NDP for IPv6.
	//
	// +kubebuilder:validation:MaxLength=16
	// +optional
	Protocols string `json:"protocols,omitempty"`

	// phases of the announcements.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Phases string `json:"phases,omitempty"`

	// since when they have been announced: the latest since of the announcements.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// announcements, one for each address of the Service, sorted by address.
	//
	// +kubebuilder:validation:MaxItems=256
	// +listType=map
	// +listMapKey=address
	// +optional
	Announcements []L2Announcement `json:"announcements,omitempty"`
}

// L2Protocol is how an address is announced.
//
// +kubebuilder:validation:Enum=ARP;NDP
type L2Protocol string

// The protocols.
const (
	ProtocolARP L2Protocol = "ARP"
	ProtocolNDP L2Protocol = "NDP"
)

// L2Phase is how far the announcing of an address has come: Pending when nobody announces it (yet), Probing
// while its node asks whether a stranger uses it, Announcing, or Taken when a stranger was found to use it and it is
// not announced.
//
// +kubebuilder:validation:Enum=Announcing;Probing;Taken;Pending
type L2Phase string

// The phases.
const (
	PhaseAnnouncing L2Phase = "Announcing"
	PhaseProbing    L2Phase = "Probing"
	PhaseTaken      L2Phase = "Taken"
	PhasePending    L2Phase = "Pending"
)

// L2Announcement tells how one address is announced.
type L2Announcement struct {
	// address that this is about.
	//
	// +kubebuilder:validation:MaxLength=45
	// +required
	Address string `json:"address"`

	// node that announces the address, or is about to. Empty when none does.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Node string `json:"node,omitempty"`

	// interfaces of the node that the address is announced on.
	//
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=name
	// +optional
	Interfaces []L2Interface `json:"interfaces,omitempty"`

	// protocol that the address is announced by: ARP for IPv4, NDP for IPv6.
	//
	// +required
	Protocol L2Protocol `json:"protocol"`

	// phase of the announcement.
	//
	// +required
	Phase L2Phase `json:"phase"`

	// since when the node has owned the address; a planned handover does not change it. Absent when no
	// node does.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`

	// reason, in one word, why the address is announced or not.
	//
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`

	// message says more about the reason.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// rival is the MAC of a stranger that uses the address, too. Empty: none that is known of.
	//
	// +kubebuilder:validation:MaxLength=17
	// +optional
	Rival string `json:"rival,omitempty"`
}

// L2Interface is an interface that an address is announced on.
type L2Interface struct {
	// name of the interface.
	//
	// +kubebuilder:validation:MaxLength=32
	// +required
	Name string `json:"name"`

	// mac that clients are told to send to.
	//
	// +kubebuilder:validation:MaxLength=17
	// +optional
	MAC string `json:"mac,omitempty"`
}

// ServiceL2Status tells which node announces the addresses of a Service, on which interface and MAC, by what
// protocol and since when; and where nobody does, why. Speakers write it. It has the namespace and name of its
// Service, and goes with it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=servicel2statuses,scope=Namespaced,shortName=l2status,categories=lanyard
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.addresses`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.status.interfaces`
// +kubebuilder:printcolumn:name="MACs",type=string,JSONPath=`.status.macs`
// +kubebuilder:printcolumn:name="Protocols",type=string,JSONPath=`.status.protocols`
// +kubebuilder:printcolumn:name="Phases",type=string,JSONPath=`.status.phases`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.since`
type ServiceL2Status struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Status ServiceL2StatusStatus `json:"status,omitempty"`
}

// ServiceL2StatusList is a list of the announcements of Services.
//
// +kubebuilder:object:root=true
type ServiceL2StatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceL2Status `json:"items"`
}
