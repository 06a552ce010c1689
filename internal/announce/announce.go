package announce

import (
	"context"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

// Want is everything an announcer should hold: it is complete each time, never a difference. The announcer keeps
// Announcements and Peers, and does not look at what is the same pointer, slice or map as before: callers must not
// modify what they hold.
type Want struct {
	// Interfaces of this node that announcing may use.
	Interfaces []placement.Interface
	// Announcements that this node owns, each address at most once; best sorted by address.
	Announcements []*placement.Announcement
	// Peers are the MAC addresses of the other nodes' interfaces. Who has another one and claims an address
	// of ours is a stranger.
	Peers map[placement.MAC]bool
}

// Standing is how an address of the last Set stands.
type Standing = placement.Standing

// An Announcer makes the addresses it is told to hold reachable through this node.
// Its methods may be called from several goroutines.
type Announcer interface {
	// Set replaces what the announcer holds. While Run runs, every wanted address is answered for, and
	// no other, once Set has returned; before that, the last Set takes effect as Run starts.
	// Setting the same again does nothing that others could see. One failing interface does not stop
	// the others: what failed is returned, joined, and tried again by the next Set.
	Set(Want) error
	// Standings tells how each address of the last Set stands, sorted by address. While nothing has changed, it
	// is the same slice, and what stands as before is the same pointer; nobody may change what it holds.
	Standings() []*Standing
	// Changed has a signal waiting whenever Standings may tell something else than when the last one was
	// taken; of a claimant that goes on claiming, at most about once a second. There is one channel: it
	// has one reader.
	Changed() <-chan struct{}
	// Run serves until ctx ends and then lets go of everything: when it returns, no goroutine is left
	// and nothing is answered. It returns nil when ctx ended it.
	Run(ctx context.Context) error
}
