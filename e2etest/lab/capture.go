package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Capture holds the frames that passed a port of the switch since it was begun. Methods may be called concurrently.
type Capture struct {
	socket *rawSocket
	done   chan struct{}

	mu     sync.Mutex
	frames []Frame
}

// Capture begins to record frames on the switch port of a host's NIC, both ways. Stop it, or it ends with the lab.
func (l *Lab) Capture(host, nic string) (*Capture, error) {
	return l.capture(l.Host(host).NIC(nic).Port)
}

// CaptureSegment records on the bridge itself: the frames that reach the switch as a whole, which are those that are
// flooded (broadcast and most multicast) and those to unknown destinations.
func (l *Lab) CaptureSegment(segment int) (*Capture, error) {
	return l.capture(l.ground.bridge(segment))
}

func (l *Lab) capture(port string) (*Capture, error) {
	socket, err := openRaw(l.Host(switchHost).Namespace, port)
	if err != nil {
		return nil, err
	}
	c := &Capture{socket: socket, done: make(chan struct{})}
	go c.record()
	return c, nil
}

func (c *Capture) record() {
	defer close(c.done)
	for {
		f, err := c.socket.read()
		// ENETDOWN is reported once when the port loses its link; frames come again when it is back.
		if errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return
		}
		c.mu.Lock()
		c.frames = append(c.frames, f)
		c.mu.Unlock()
	}
}

// Stop ends the recording; the frames stay. It may be repeated.
func (c *Capture) Stop() {
	_ = c.socket.close()
	<-c.done
}

// Frames returns the frames so far that pass the filter, in order; a nil filter passes all.
func (c *Capture) Frames(filter func(Frame) bool) []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	if filter == nil {
		return slices.Clone(c.frames)
	}
	var found []Frame
	for _, f := range c.frames {
		if filter(f) {
			found = append(found, f)
		}
	}
	return found
}

// Claims are the frames so far that claim an address: see Frame.Claims.
func (c *Capture) Claims(ip netip.Addr) []Frame {
	return c.Frames(func(f Frame) bool { return f.Claims(ip) })
}

// Wait waits for a frame that passes the filter, or finds one that came already.
func (c *Capture) Wait(ctx context.Context, filter func(Frame) bool) (Frame, error) {
	var found []Frame
	err := poll(ctx, 5*time.Millisecond, func() bool {
		found = c.Frames(filter)
		return len(found) > 0
	})
	if err != nil {
		return Frame{}, fmt.Errorf("wait for a frame: %w; captured:\n%s", err, c)
	}
	return found[0], nil
}

// String prints the frames, a line each.
func (c *Capture) String() string {
	var b strings.Builder
	for _, f := range c.Frames(nil) {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}
