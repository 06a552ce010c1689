package ipam

// Reason says in one word why a Service holds what it holds. Conditions, events, metrics, logs and the
// command line all print this value.
type Reason string

// The reasons. Only Assigned and OutsidePool mean that nothing is missing.
const (
	Assigned           Reason = "Assigned"           // all that is asked for is assigned
	OutsidePool        Reason = "OutsidePool"        // an address is kept that no pool contains any more
	ForeignStatus      Reason = "ForeignStatus"      // the status was written by somebody else: left alone
	InvalidRequest     Reason = "InvalidRequest"     // an annotation or field cannot be read
	NoPool             Reason = "NoPool"             // there is no pool, or none of the name asked for
	PoolNotAllowed     Reason = "PoolNotAllowed"     // pools exist, none may serve this Service
	FamilyUnavailable  Reason = "FamilyUnavailable"  // no pool that may serve has addresses of a family
	PoolPaused         Reason = "PoolPaused"         // the pools that could serve give nothing new
	QuotaExceeded      Reason = "QuotaExceeded"      // the namespace holds as many addresses as it may
	PoolExhausted      Reason = "PoolExhausted"      // every pool that could serve is full
	AddressNotInPool   Reason = "AddressNotInPool"   // no pool contains the address asked for
	AddressInUse       Reason = "AddressInUse"       // somebody else has the address asked for
	SharingConflict    Reason = "SharingConflict"    // the sharers of the key do not go together
	ReservationMissing Reason = "ReservationMissing" // there is no reservation of that name in the namespace
	ReservationFull    Reason = "ReservationFull"    // the reservation has no free address of a family
	Quarantined        Reason = "Quarantined"        // a stranger on the LAN uses the address asked for
)

// helpfulness orders the reasons of several pools that refuse: the last that occurs is told, for it is the
// closest to a solution.
var helpfulness = []Reason{NoPool, PoolNotAllowed, FamilyUnavailable, PoolPaused, QuotaExceeded, PoolExhausted}

// remedies say what would help.
var remedies = map[Reason]string{
	NoPool:             "Create an IPAddressPool, or see in its condition Ready why one is not in force",
	PoolNotAllowed:     "Ask for a pool that serves this Service, or have one widened",
	FamilyUnavailable:  "Add addresses of that family to a pool",
	PoolPaused:         "Have a paused pool resumed, or ask for what another pool has",
	QuotaExceeded:      "Release an address in the namespace, or have the pool's limit raised",
	PoolExhausted:      "Add addresses to a pool; it is served as soon as one is free",
	AddressNotInPool:   "Ask for an address of a pool, or add this one to a pool",
	AddressInUse:       "It is served when the address is free, or ask for another one",
	SharingConflict:    "Change ports, use another sharing key, or allow a second address with lanyard.dev/sharing-spill",
	ReservationMissing: "Create the IPReservation, or remove the annotation lanyard.dev/reservation",
	ReservationFull:    "Reserve more addresses, or release one that is in use",
	Quarantined:        "Ask for another address, or find the stranger",
}
