package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPoolSpec is what the user wants of a pool. No edit of it takes an address away from a Service or
// reservation that holds one, unless onShrink says so.
type IPAddressPoolSpec struct {
	// addresses that Services may be given: CIDRs, ranges with both ends included, and single addresses, of
	// either family. No address may stand in two pools, nor twice in one: of two pools that overlap, the one
	// in force first stays so, and among new ones the older. Unspecified, loopback, link-local, multicast and
	// broadcast addresses are refused. At most 50 entries; what needs more is split over several pools.
	//
	// +kubebuilder:validation:items:XValidation:rule=`self.contains('-') || !isCIDR(self) && !isIP(self) || !['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '255.255.255.255/32', '::/128', '::1/128', 'fe80::/10', 'ff00::/8'].exists(b, cidr(isCIDR(self) ? self : self + (self.contains(':') ? '/128' : '/32')).containsCIDR(b) || cidr(b).containsCIDR(cidr(isCIDR(self) ? self : self + (self.contains(':') ? '/128' : '/32'))))`,message="must not contain unspecified, loopback, link-local, multicast or broadcast addresses"
	// +kubebuilder:validation:items:XValidation:rule=`!self.contains('-') || !isIP(self.substring(0, self.indexOf('-')).trim()) || !isIP(self.substring(self.indexOf('-') + 1).trim()) || self.substring(0, self.indexOf('-')).trim().contains(':') || self.substring(self.indexOf('-') + 1).trim().contains(':') || int(self.substring(0, self.indexOf('-')).trim().split('.')[0]) >= 1 && (int(self.substring(self.indexOf('-') + 1).trim().split('.')[0]) <= 126 || int(self.substring(0, self.indexOf('-')).trim().split('.')[0]) >= 240 && self.substring(self.indexOf('-') + 1).trim() != '255.255.255.255' || int(self.substring(0, self.indexOf('-')).trim().split('.')[0]) >= 128 && int(self.substring(self.indexOf('-') + 1).trim().split('.')[0]) <= 223 && (int(self.substring(self.indexOf('-') + 1).trim().split('.')[0]) < 169 || int(self.substring(0, self.indexOf('-')).trim().split('.')[0]) > 169 || int(self.substring(self.indexOf('-') + 1).trim().split('.')[0]) == 169 && int(self.substring(self.indexOf('-') + 1).trim().split('.')[1]) < 254 || int(self.substring(0, self.indexOf('-')).trim().split('.')[0]) == 169 && int(self.substring(0, self.indexOf('-')).trim().split('.')[1]) > 254))`,message="must not contain unspecified, loopback, link-local, multicast or broadcast addresses"
	// +kubebuilder:validation:items:XValidation:rule=`!self.contains('-') || !isIP(self.substring(0, self.indexOf('-')).trim()) || !isIP(self.substring(self.indexOf('-') + 1).trim()) || !self.substring(0, self.indexOf('-')).trim().contains(':') || !self.substring(self.indexOf('-') + 1).trim().contains(':') || !ip(self.substring(0, self.indexOf('-')).trim()).isUnspecified() && !ip(self.substring(0, self.indexOf('-')).trim()).isLoopback() && (['::/1', '8000::/2', 'c000::/3', 'e000::/4', 'f000::/5', 'f800::/6', 'fc00::/7', 'fe00::/9'].exists(b, cidr(b).containsIP(self.substring(self.indexOf('-') + 1).trim())) || cidr('fec0::/10').containsIP(self.substring(0, self.indexOf('-')).trim()) && cidr('fec0::/10').containsIP(self.substring(self.indexOf('-') + 1).trim()))`,message="must not contain unspecified, loopback, link-local, multicast or broadcast addresses"
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	// +required
	Addresses []AddressRange `json:"addresses"`

	// excludedAddresses are never handed out, although addresses contains them. They need not be part of
	// addresses, and another pool may have them. At most 50 entries.
	//
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	// +optional
	ExcludedAddresses []AddressRange `json:"excludedAddresses,omitempty"`

	// subnets are the CIDRs of the LAN that the pool lies in, such as 192.168.1.0/24 (bits after the prefix
	// are ignored). Their own addresses are never handed out: the network and broadcast address of an IPv4
	// subnet (prefixes shorter than /31), and the Subnet-Router anycast address, the lowest one, of an IPv6
	// subnet (RFC 4291 section 2.6.1; prefixes shorter than /127). The condition AddressesLeftOut lists them.
	//
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="must be a CIDR such as 192.168.1.0/24"
	// +listType=atomic
	// +optional
	Subnets []string `json:"subnets,omitempty"`

	// avoidBuggyIPs leaves out IPv4 addresses that end in .0 or .255, which some old devices drop. Default:
	// false.
	//
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// autoAssign says whether Services that ask for neither this pool nor an address of it may be given
	// addresses of it. Default: true.
	//
	// +kubebuilder:default=true
	// +optional
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// serviceAllocation says which Services the pool may serve, and in which order pools are tried. Default:
	// all Services, last.
	//
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`

	// paused has the pool give nothing new. What is assigned stays assigned and announced. Default: false.
	//
	// +optional
	Paused bool `json:"paused,omitempty"`

	// strategy says which of the free addresses is given. LowestFree, the default, gives the lowest.
	// LeastRecentlyUsed gives the one that has been free for the longest time (those never used first, the
	// lowest of them), so that a released address rests as long as possible.
	//
	// +kubebuilder:default=LowestFree
	// +optional
	Strategy AllocationStrategy `json:"strategy,omitempty"`

	// limits on how much may be taken from the pool. They stop new assignments and take nothing back.
	//
	// +optional
	Limits *PoolLimits `json:"limits,omitempty"`

	// onShrink says what becomes of Services whose address the pool does not contain any more after an edit.
	// With Keep, the default, they keep it until they are deleted or annotated with lanyard.dev/reassign.
	// With Reassign they are given another address as soon as one can be had, and keep the old one till then.
	//
	// +kubebuilder:default=Keep
	// +optional
	OnShrink ShrinkPolicy `json:"onShrink,omitempty"`

	// retain is how long an address is kept for a Service that was deleted: within that time a new Service of
	// the same namespace and name is given it again, and nobody else is. A duration such as 10m or 24h, at
	// most 87600h. Default: 0s.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('87600h')",message="must be at most 87600h"
	// +optional
	Retain *metav1.Duration `json:"retain,omitempty"`
}

// ServiceAllocation says which Services a pool may serve. A Service must fit both by its namespace and by its
// labels. Also a Service that asks for the pool, or for an address of it, is served only if it fits.
// Holders that do not fit any more after an edit keep their addresses.
type ServiceAllocation struct {
	// priority orders the pools that may serve a Service: the lower number is tried first, ties by name. 0,
	// and no priority, come last. A pool that is full, paused or lacks the family is passed over.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Priority *int32 `json:"priority,omitempty"`

	// namespaces that the pool serves, by name. With namespaceSelectors it is a union; when both are empty,
	// the pool serves all namespaces. When they match no namespace, it serves none.
	//
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`

	// namespaceSelectors select namespaces by label: those that one of the selectors matches.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// serviceSelectors select Services by label: those that one of the selectors matches. Empty: all.
	//
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// AllocationStrategy says which of its free addresses a pool gives.
//
// +kubebuilder:validation:Enum=LowestFree;LeastRecentlyUsed
type AllocationStrategy string

// The allocation strategies.
const (
	LowestFree        AllocationStrategy = "LowestFree"
	LeastRecentlyUsed AllocationStrategy = "LeastRecentlyUsed"
)

// ShrinkPolicy says what becomes of the holders of addresses that an edit takes out of a pool.
//
// +kubebuilder:validation:Enum=Keep;Reassign
type ShrinkPolicy string

// The shrink policies.
const (
	ShrinkKeep     ShrinkPolicy = "Keep"
	ShrinkReassign ShrinkPolicy = "Reassign"
)

// PoolLimits bound how much may be taken from a pool.
type PoolLimits struct {
	// addressesPerNamespace is how many addresses of the pool, both families together, the Services of one
	// namespace may hold. Default: no limit.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	AddressesPerNamespace *int32 `json:"addressesPerNamespace,omitempty"`
}

// IPAddressPool is a set of addresses for Services of type LoadBalancer.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ippool,categories=lanyard
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="IPv4 Assigned",type=string,JSONPath=`.status.ipv4.assigned`
// +kubebuilder:printcolumn:name="IPv4 Available",type=string,JSONPath=`.status.ipv4.available`
// +kubebuilder:printcolumn:name="IPv6 Assigned",type=string,JSONPath=`.status.ipv6.assigned`
// +kubebuilder:printcolumn:name="IPv6 Available",type=string,JSONPath=`.status.ipv6.available`,priority=1
// +kubebuilder:printcolumn:name="Paused",type=boolean,JSONPath=`.spec.paused`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec IPAddressPoolSpec `json:"spec"`
	// +optional
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolList is a list of pools.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddressPool `json:"items"`
}
