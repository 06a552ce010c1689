package v1beta1

// Annotations that users write on Services. Lists are separated by commas; blanks around the items do not
// count.
const (
	// AnnotationAddresses lists the addresses asked for, any number of each family, also from several pools.
	AnnotationAddresses = "lanyard.dev/addresses"
	// AnnotationPool lists the pools to take addresses from, in order of preference.
	AnnotationPool = "lanyard.dev/pool"
	// AnnotationReservation names the IPReservation, in the Service's namespace, to take addresses from.
	AnnotationReservation = "lanyard.dev/reservation"
	// AnnotationSharingKey lets Services with the same key, in one namespace, share addresses.
	AnnotationSharingKey = "lanyard.dev/sharing-key"
	// AnnotationSharingNamespaces lists other namespaces ("*" is all) to share with; those must agree.
	AnnotationSharingNamespaces = "lanyard.dev/sharing-namespaces"
	// AnnotationSharingSpill, a boolean, has a Service take another address of its key when ports clash.
	AnnotationSharingSpill = "lanyard.dev/sharing-spill"
	// AnnotationReassign, a boolean, lets go of addresses that no pool contains any more, for others.
	AnnotationReassign = "lanyard.dev/reassign"
	// AnnotationMoveTo names the node that the Service's addresses are handed over to, and stay on as long as
	// it may announce them. Of Services that share an address, the first by name that names a node prevails.
	AnnotationMoveTo = "lanyard.dev/move-to"
)

// Annotations of MetalLB, read as aliases where the one of Lanyard is absent. With both, the first wins.
var (
	// AliasesAddresses of AnnotationAddresses.
	AliasesAddresses = [...]string{"metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"}
	// AliasesPool of AnnotationPool.
	AliasesPool = [...]string{"metallb.io/address-pool", "metallb.universe.tf/address-pool"}
	// AliasesSharingKey of AnnotationSharingKey.
	AliasesSharingKey = [...]string{"metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"}
)

// FinalizerInUse keeps an IPAddressPool that is being deleted until nobody holds an address of it.
const FinalizerInUse = "lanyard.dev/in-use"
