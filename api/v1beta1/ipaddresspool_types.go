package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AddressRange is a set of consecutive addresses of one family: a CIDR (192.168.1.0/28), a range with both
// ends included (192.168.1.10-192.168.1.20) or a single address.
//
// CEL has neither let nor arithmetic on addresses, so the last rule looks for the first bit n+1 in which the
// two ends differ: the longest common prefix of length n contains both, and the first end has a 0 there.
// It is what bounds the number of items in a list of ranges: the API server limits the cost of rules.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=80
// +kubebuilder:validation:XValidation:rule=`self.contains('-') ? isIP(self.substring(0, self.indexOf('-')).trim()) && isIP(self.substring(self.indexOf('-') + 1).trim()) : isCIDR(self) || isIP(self)`,message="must be a CIDR such as 192.168.1.0/28, a range such as 192.168.1.10-192.168.1.20, or a single address"
// +kubebuilder:validation:XValidation:rule=`!self.contains('-') || !isIP(self.substring(0, self.indexOf('-')).trim()) || !isIP(self.substring(self.indexOf('-') + 1).trim()) || ip(self.substring(0, self.indexOf('-')).trim()).family() == ip(self.substring(self.indexOf('-') + 1).trim()).family()`,message="both ends of a range must be of one family, IPv4 or IPv6"
// +kubebuilder:validation:XValidation:rule=`!self.contains('-') || !isIP(self.substring(0, self.indexOf('-')).trim()) || !isIP(self.substring(self.indexOf('-') + 1).trim()) || ip(self.substring(0, self.indexOf('-')).trim()).family() != ip(self.substring(self.indexOf('-') + 1).trim()).family() || ip(self.substring(0, self.indexOf('-')).trim()) == ip(self.substring(self.indexOf('-') + 1).trim()) || [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15].exists(i, (i < 4 || self.substring(0, self.indexOf('-')).trim().contains(':')) && [0,1,2,3,4,5,6,7].exists(j, cidr(self.substring(0, self.indexOf('-')).trim() + '/' + ((i * 8 + j) > 99 ? '1' : "") + ((i * 8 + j) > 9 ? '0123456789'.substring((i * 8 + j) / 10 % 10, (i * 8 + j) / 10 % 10 + 1) : "") + '0123456789'.substring((i * 8 + j) % 10, (i * 8 + j) % 10 + 1)).containsIP(self.substring(self.indexOf('-') + 1).trim()) && !cidr(self.substring(0, self.indexOf('-')).trim() + '/' + ((i * 8 + j + 1) > 99 ? '1' : "") + ((i * 8 + j + 1) > 9 ? '0123456789'.substring((i * 8 + j + 1) / 10 % 10, (i * 8 + j + 1) / 10 % 10 + 1) : "") + '0123456789'.substring((i * 8 + j + 1) % 10, (i * 8 + j + 1) % 10 + 1)).containsIP(self.substring(self.indexOf('-') + 1).trim()) && cidr(self.substring(0, self.indexOf('-')).trim() + '/' + ((i * 8 + j + 1) > 99 ? '1' : "") + ((i * 8 + j + 1) > 9 ? '0123456789'.substring((i * 8 + j + 1) / 10 % 10, (i * 8 + j + 1) / 10 % 10 + 1) : "") + '0123456789'.substring((i * 8 + j + 1) % 10, (i * 8 + j + 1) % 10 + 1)).containsIP(cidr(self.substring(0, self.indexOf('-')).trim() + '/' + ((i * 8 + j) > 99 ? '1' : "") + ((i * 8 + j) > 9 ? '0123456789'.substring((i * 8 + j) / 10 % 10, (i * 8 + j) / 10 % 10 + 1) : "") + '0123456789'.substring((i * 8 + j) % 10, (i * 8 + j) % 10 + 1)).masked().ip())))`,message="the first address of a range must not be above its last"
type AddressRange string

// IPAddressPoolSpec is what the user wants of a pool.
type IPAddressPoolSpec struct {
	// addresses that Services may be given: CIDRs, ranges with both ends included, and single addresses, of
	// either family. No address may stand in two pools: the younger of two pools that overlap is not used.
	// At most 50; what needs more is split over several pools.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	// +required
	Addresses []AddressRange `json:"addresses"`

	// autoAssign says whether Services that name no pool may be given addresses of this one.
	//
	// +kubebuilder:default=true
	// +optional
	AutoAssign *bool `json:"autoAssign,omitempty"`
}

// IPAddressPoolStatus is what the controller reports on a pool.
type IPAddressPoolStatus struct {
	// conditions: Ready is True when the pool is in force; otherwise its reason and message say why not.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPAddressPool is a set of addresses for Services of type LoadBalancer.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ippool,categories=lanyard
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`
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
