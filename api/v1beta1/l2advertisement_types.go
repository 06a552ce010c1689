package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// L2AdvertisementSpec says which addresses are announced by ARP and NDP, from which nodes and interfaces.
type L2AdvertisementSpec struct {
	// ipAddressPools names the pools whose addresses are announced. With ipAddressPoolSelectors it is a
	// union; when both are empty, every pool is announced.
	//
	// +kubebuilder:validation:MaxItems=128
	// +listType=set
	// +optional
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// ipAddressPoolSelectors selects pools by label. A pool that one of them matches is announced.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// nodeSelectors limits the nodes that may announce to those that one of the selectors matches.
	// Empty: all nodes.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// interfaces limits the interfaces that are announced on. Each is a name or a pattern with the
	// wildcards * and ?, such as "eth*". Empty: all suitable interfaces.
	//
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=32
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[^/\\\\s\\\\[\\\\]\\\\\\\\]+$')",message="must be an interface name or a pattern with * and ?"
	// +listType=set
	// +optional
	Interfaces []string `json:"interfaces,omitempty"`

	// serviceSelectors limits the Services whose addresses are announced to those that one of the selectors
	// matches by label. Empty: all Services. Services that share an address must be selected alike: the
	// address is announced only under advertisements that select all of them.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// preferredNodeSelectors prefers some of the nodes that may announce by this advertisement to the others:
	// the weights of all entries that match a node are summed, over all advertisements of an address, and
	// the nodes with the highest sum announce it. It is soft: when none of those can, others do.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// ignoreSubnets has addresses announced on interfaces whatever their subnets. Default: false, which
	// announces an address only on interfaces whose subnet contains it and, where no node has such a subnet,
	// on any suitable one: a router may hold an on-link route.
	//
	// +kubebuilder:default=false
	// +optional
	IgnoreSubnets bool `json:"ignoreSubnets,omitempty"`

	// noEndpoints says what happens to an address of which no Service has a serving endpoint anywhere:
	// Announce goes on announcing it, and the node that does rejects connections; Withdraw leaves it without
	// an answer until an endpoint serves. Of several advertisements, one that says Announce prevails.
	//
	// +kubebuilder:default=Announce
	// +optional
	NoEndpoints NoEndpointsPolicy `json:"noEndpoints,omitempty"`
}

// PreferredNodeSelector prefers the nodes that it matches.
type PreferredNodeSelector struct {
	// weight that a node gains when preference matches it, from 1 to 100.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +required
	Weight int32 `json:"weight"`

	// preference selects nodes by label. The empty selector matches all.
	//
	// +required
	Preference metav1.LabelSelector `json:"preference"`
}

// NoEndpointsPolicy says what happens to an address that nothing serves.
//
// +kubebuilder:validation:Enum=Announce;Withdraw
type NoEndpointsPolicy string

// The policies for addresses that nothing serves.
const (
	NoEndpointsAnnounce NoEndpointsPolicy = "Announce"
	NoEndpointsWithdraw NoEndpointsPolicy = "Withdraw"
)

// L2AdvertisementStatus is what the controller reports on an advertisement.
type L2AdvertisementStatus struct {
	// conditions: Ready is True when the advertisement is in force and all it names exists; otherwise its
	// reason and message say what is wrong.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// L2Advertisement announces addresses of pools on the LAN, by ARP for IPv4 and NDP for IPv6. Several that cover
// one address add up: a node may announce it when one of them allows it, on the interfaces that one of those
// allows.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=l2ad,categories=lanyard
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="No Endpoints",type=string,JSONPath=`.spec.noEndpoints`,priority=1
// +kubebuilder:printcolumn:name="Ignore Subnets",type=boolean,JSONPath=`.spec.ignoreSubnets`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitempty"`
	// +optional
	Status L2AdvertisementStatus `json:"status,omitempty"`
}

// L2AdvertisementList is a list of advertisements.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L2Advertisement `json:"items"`
}
