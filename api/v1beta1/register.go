package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of this package.
var GroupVersion = schema.GroupVersion{Group: "lanyard.dev", Version: "v1beta1"}

// AddToScheme registers the types of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&IPAddressPool{}, &IPAddressPoolList{},
		&L2Advertisement{}, &L2AdvertisementList{},
		&IPReservation{}, &IPReservationList{},
		&IPAllocationRecord{}, &IPAllocationRecordList{},
		&ServiceL2Status{}, &ServiceL2StatusList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
