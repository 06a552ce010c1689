package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lanyard-lb/lanyard/api/v1beta1"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	// mostListed is how many addresses a condition's message names; summed is how many values a summary does.
	mostListed = 20
	summed     = 8
	// The limits of a ServiceL2Status.
	mostAnnouncements = 256
	mostInterfaces    = 64
	longestMessage    = 1024
)

// address is how one address of a Service is announced.
type address struct {
	placement.Verdict
	macs []placement.MAC // of Interfaces, in their order; zero where the owner has not told
}

// addressOf joins a verdict with what the owner has told of its interfaces.
func addressOf(v *placement.Verdict, reports map[string]placement.Report) address {
	a := address{Verdict: *v, macs: make([]placement.MAC, len(v.Interfaces))}
	for _, i := range reports[v.Owner].Interfaces {
		if at := slices.Index(v.Interfaces, i.Name); at >= 0 {
			a.macs[at] = i.MAC
		}
	}
	return a
}

// same reports whether the API server should say the same of both.
func (a address) same(b address) bool {
	return a.IP == b.IP && a.Owner == b.Owner && a.Reason == b.Reason && a.Detail == b.Detail &&
		a.Claim.Phase == b.Claim.Phase && a.Claim.Rival == b.Claim.Rival && a.Claim.Since.Equal(b.Claim.Since) &&
		slices.Equal(a.Interfaces, b.Interfaces) && slices.Equal(a.macs, b.macs)
}

// phase is that of the owner's claim; without a claim nothing has begun.
func (a address) phase() v1beta1.L2Phase {
	if a.Owner == "" || a.Claim.Since.IsZero() {
		return v1beta1.PhasePending
	}
	switch a.Claim.Phase {
	case placement.Announcing:
		return v1beta1.PhaseAnnouncing
	case placement.Probing:
		return v1beta1.PhaseProbing
	case placement.Taken:
		return v1beta1.PhaseTaken
	}
	return v1beta1.PhasePending
}

// announced reports whether the address is answered for.
func (a address) announced() bool { return a.phase() == v1beta1.PhaseAnnouncing }

// why is the reason of the verdict, as far as the claim agrees with it: what the owner does tells more than
// what it should do.
func (a address) why() placement.Reason {
	expected := a.Reason == placement.Announced || a.Reason == placement.Settling || a.Reason == ""
	switch {
	case !expected:
		return a.Reason
	case a.announced():
		return placement.Announced
	case a.phase() == v1beta1.PhaseTaken && (a.Claim.Rival != placement.MAC{}): // else it may be a node of ours
		return placement.AddressConflict
	}
	return placement.Settling
}

// passing reports whether the address is on its way to another state by itself.
func (a address) passing() bool {
	return a.why() == placement.Settling || a.phase() == v1beta1.PhaseProbing
}

// String is a sentence for people, as in "10.0.0.1 by n1 on eth0 (02:00:00:00:00:01)"; announcersIn reads it.
func (a address) String() string {
	said := string(a.why())
	if a.Detail != "" {
		said += ": " + a.Detail
	}
	switch {
	case !a.announced() && a.Owner != "":
		return fmt.Sprintf("%s: %s (node %s)", a.IP, said, a.Owner)
	case !a.announced():
		return fmt.Sprintf("%s: %s", a.IP, said)
	}
	var on []string
	for i, name := range a.Interfaces {
		if a.macs[i] != (placement.MAC{}) {
			name += " (" + a.macs[i].String() + ")"
		}
		on = append(on, name)
	}
	text := fmt.Sprintf("%s by %s on %s", a.IP, a.Owner, strings.Join(on, ", "))
	if a.why() != placement.Announced || a.Detail != "" {
		text += ": " + said
	}
	return text
}

// announcersIn returns the "address by node" parts of a condition's message.
func announcersIn(message string) (list []string) {
	for text := range strings.SplitSeq(message, "; ") {
		ip, rest, found := strings.Cut(text, " by ")
		if _, err := netip.ParseAddr(ip); found && err == nil {
			node, _, _ := strings.Cut(rest, " ")
			list = append(list, ip+" by "+node)
		}
	}
	return list
}

// outcome is what the API server should say of one Service.
type outcome struct {
	condition metav1.Condition // without the time and the generation
	l2        v1beta1.ServiceL2StatusStatus
	passing   bool // it will soon be another one
}

// outcomeOf sums up the addresses of a Service, at least one, in their order.
func outcomeOf(list []address) outcome {
	o := outcome{condition: metav1.Condition{Type: v1beta1.ConditionAnnounced, Status: metav1.ConditionTrue, Reason: string(placement.Announced)}}
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
		o.passing = o.passing || a.passing()
		switch {
		case !a.announced() && o.condition.Status == metav1.ConditionTrue:
			o.condition.Status, o.condition.Reason = metav1.ConditionFalse, string(a.why())
		case o.condition.Status == metav1.ConditionTrue && o.condition.Reason == string(placement.Announced):
			o.condition.Reason = string(a.why())
		}
	}
	if more := len(texts) - mostListed; more > 0 {
		texts = append(texts[:mostListed], fmt.Sprintf("and %d more", more))
	}
	o.condition.Message = strings.Join(texts, "; ")
	o.l2 = l2Status(list)
	return o
}

// eventType is Warning for what somebody should look at.
func eventType(c metav1.Condition) string {
	bad := c.Status == metav1.ConditionFalse && c.Reason != string(placement.Settling)
	if bad || c.Reason == string(placement.AddressConflict) {
		return corev1.EventTypeWarning
	}
	return corev1.EventTypeNormal
}

func l2Status(list []address) v1beta1.ServiceL2StatusStatus {
	var s v1beta1.ServiceL2StatusStatus
	var addresses, nodes, interfaces, macs, protocols, phases []string
	for _, a := range list {
		n := announcement(a)
		addresses, protocols, phases = append(addresses, n.Address), append(protocols, string(n.Protocol)), append(phases, string(n.Phase))
		nodes = append(nodes, n.Node)
		for _, i := range n.Interfaces {
			interfaces, macs = append(interfaces, i.Name), append(macs, i.MAC)
		}
		if n.Since != nil && (s.Since == nil || s.Since.Before(n.Since)) {
			s.Since = n.Since
		}
		if len(s.Announcements) < mostAnnouncements {
			s.Announcements = append(s.Announcements, n)
		}
	}
	s.Addresses, s.Nodes, s.Interfaces = summary(addresses), summary(nodes), summary(interfaces)
	s.MACs, s.Protocols, s.Phases = summary(macs), summary(protocols), summary(phases)
	return s
}

func announcement(a address) v1beta1.L2Announcement {
	n := v1beta1.L2Announcement{Address: a.IP.String(), Node: a.Owner, Protocol: v1beta1.ProtocolNDP,
		Phase: a.phase(), Reason: string(a.why()), Message: a.Detail}
	if a.IP.Is4() {
		n.Protocol = v1beta1.ProtocolARP
	}
	if len(n.Message) > longestMessage {
		n.Message = strings.ToValidUTF8(n.Message[:longestMessage], "")
	}
	for i, name := range a.Interfaces[:min(len(a.Interfaces), mostInterfaces)] {
		face := v1beta1.L2Interface{Name: name}
		if a.macs[i] != (placement.MAC{}) {
			face.MAC = a.macs[i].String()
		}
		n.Interfaces = append(n.Interfaces, face)
	}
	if a.Owner != "" && !a.Claim.Since.IsZero() {
		since := metav1.NewTime(a.Claim.Since).Rfc3339Copy()
		n.Since = &since
	}
	if a.Claim.Rival != (placement.MAC{}) {
		n.Rival = a.Claim.Rival.String()
	}
	return n
}

// summary lists the different values, as they come, in bounded length.
func summary(values []string) string {
	var different []string
	for _, v := range values {
		if v != "" && !slices.Contains(different, v) {
			different = append(different, v)
		}
	}
	if more := len(different) - summed; more > 0 {
		different = append(different[:summed], fmt.Sprintf("+%d", more))
	}
	return strings.Join(different, ",")
}
