package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AddressRange is a set of consecutive addresses of one family: a CIDR (192.168.1.0/28), a range with both
// ends included (192.168.1.10-192.168.1.20) or a single address.
//
// The rules speak one after the other: each lets pass what an earlier one has already refused. The order of
// a range's ends is found without arithmetic: at the first bit in which they differ (the shortest prefix of
// the first end that no longer contains the second), the first end must have a 0, that is, masking it there
// must change nothing but the length.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=96
// +kubebuilder:validation:XValidation:rule="self.contains('-') ? self.split('-').size() == 2 && self.split('-').all(a, isIP(a.trim())) : isCIDR(self) || isIP(self)",message="must be a CIDR such as 192.168.1.0/28, a range such as 192.168.1.10-192.168.1.20, or a single address"
// +kubebuilder:validation:XValidation:rule="!self.contains('-') || !self.split('-').all(a, isIP(a.trim())) || self.split('-').size() != 2 || ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()",message="both ends of a range must be of one family, IPv4 or IPv6"
// +kubebuilder:validation:XValidation:rule="!self.contains('-') || self.split('-').size() != 2 || !self.split('-').all(a, isIP(a.trim())) || ip(self.split('-')[0].trim()).family() != ip(self.split('-')[1].trim()).family() || ip(self.split('-')[0].trim()) == ip(self.split('-')[1].trim()) || [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67,68,69,70,71,72,73,74,75,76,77,78,79,80,81,82,83,84,85,86,87,88,89,90,91,92,93,94,95,96,97,98,99,100,101,102,103,104,105,106,107,108,109,110,111,112,113,114,115,116,117,118,119,120,121,122,123,124,125,126,127].exists(n, n < (ip(self.split('-')[0].trim()).family() == 4 ? 32 : 128) && cidr(self.split('-')[0].trim() + '/' + string(n)).containsIP(self.split('-')[1].trim()) && !cidr(self.split('-')[0].trim() + '/' + string(n + 1)).containsIP(self.split('-')[1].trim()) && cidr(self.split('-')[0].trim() + '/' + string(n + 1)).masked().ip() == cidr(self.split('-')[0].trim() + '/' + string(n)).masked().ip())",message="the first address of a range must not be above its last"
type AddressRange string

// IPAddressPoolSpec is what the user wants of a pool.
type IPAddressPoolSpec struct {
	// addresses that Services may be given: CIDRs, ranges with both ends included, and single addresses, of
	// either family. No address may stand in two pools: the younger of two pools that overlap is not used.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
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
