package v1beta1

// Condition types that Lanyard writes on Services.
const (
	// ConditionIPAssigned says whether the Service has the addresses that it asks for. Written by the controller.
	ConditionIPAssigned = "lanyard.dev/IPAssigned"
	// ConditionAnnounced says whether all addresses of the Service are announced on the LAN. Written by speakers.
	ConditionAnnounced = "lanyard.dev/Announced"
)

// Condition types that Lanyard writes on its own objects.
const (
	// ConditionReady says whether the object, as it is written now, is in force.
	ConditionReady = "Ready"
	// ConditionAddressesLeftOut, on pools, is True when addresses that the pool lists are never handed out
	// because they are something else: an address of a node, of a Service or pod CIDR, or a network,
	// broadcast or anycast address.
	ConditionAddressesLeftOut = "AddressesLeftOut"
	// ConditionConflict, on pools, is True while the pool overlaps another one. It is on both of them.
	ConditionConflict = "Conflict"
)
