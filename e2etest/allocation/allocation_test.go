package allocation

import (
	"testing"

	"github.com/lanyard-lb/lanyard/e2etest/lab"
)

// TestAllocation is everything that one controller shows. Each story has addresses of its own, and the pools of the ones
// before it are gone.
func TestAllocation(t *testing.T) {
	c := serve(t, lab.Options{Nodes: 1, Clients: -1})
	for _, story := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"sharing", sharingKey},
		{"sharing across namespaces", sharingNamespaces},
		{"sharing with externalTrafficPolicy Local", sharingLocal},
		{"sharing is looked at again when a Service changes", sharingChanges},
		{"asking for pools", askingForPools},
		{"asking for addresses", askingForAddresses},
		{"an address in use", addressInUse},
		{"a changed wish", changedWish},
		{"aliases of MetalLB", aliases},
		{"what cannot be read", malformed},
		{"who waits is served", whoWaits},
		{"deleting a pool in use", poolDeletion},
		{"a pool that vanishes by force", poolVanishes},
		{"audience by namespace", audienceNamespaces},
		{"audience by label", audienceLabels},
		{"audience that matches nothing", audienceNobody},
		{"priority", priority},
		{"PreferDualStack", preferDualStack},
		{"changes between families", familyChanges},
		{"pool status", poolStatus},
		{"who holds the address", holders},
		{"foreign class and other types", otherClass},
		{"writes to what was seen too late", preconditions},
		{"statuses of others", otherStatuses},
		{"reservations by address", reservedAddresses},
		{"reservations by number", reservedNumber},
		{"who may reserve", reservationRBAC},
		{"retain", retain},
		{"least recently used", leastRecentlyUsed},
		{"quota", quota},
		{"paused", paused},
		{"addresses left out", leftOut},
		{"shrinking", shrinking},
		{"overlap", overlap},
		{"quarantine", quarantine},
		{"recreated in a hurry", recreated},
		{"history", history},
		{"conditions and events", conditionsAndEvents},
		{"metrics", metrics},
		{"what admission refuses", refusals},
		{"gossip key", gossipKey},
		{"restarts", restarts},
		{"changes while no controller runs", whileDown},
		{"duplicates made by others", duplicates},
		{"a controller with a class", lbClass},
	} {
		t.Run(story.name, func(t *testing.T) {
			if !c.controller.Alive() { // the story before failed half way
				c.start(t)
			}
			c.noPools(t)
			story.run(t, c)
		})
	}
}
