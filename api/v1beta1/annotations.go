package v1beta1

// Condition types that Lanyard writes on Services.
const (
	// ConditionIPAssigned says whether the Service has the addresses that it asks for. Written by the controller.
	ConditionIPAssigned = "lanyard.dev/IPAssigned"
)

// Condition types that Lanyard writes on its own objects.
const (
	// ConditionReady says whether the object is in force.
	ConditionReady = "Ready"
)
