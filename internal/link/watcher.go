package link

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"syscall"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	quiet   = 10 * time.Millisecond // a burst of changes is over when none came for so long
	patient = 50 * time.Millisecond // but an endless burst is reported this often
	retry   = time.Second           // between attempts after netlink itself failed
)

// Watcher follows the interfaces of the network namespace it runs in.
type Watcher struct {
	logger log.Logger
	last   []placement.Interface
	told   bool
}

// New returns a watcher; Run starts it. A nil logger means no logging.
func New(logger log.Logger) *Watcher {
	if logger == nil {
		logger = log.NewNopLogger()
	}
	return &Watcher{logger: logger}
}

// Run calls changed with all interfaces, sorted by index, at once and then after every change of links or
// addresses, at most 50 ms after it. Changes in quick succession are told together, and a list like the
// one before is not told. The calls come one at a time, and the slices are the callee's to keep.
//
// Run returns nil when ctx ends, and an error only if netlink could not be used at all at the start; later
// failures are logged and overcome.
func (w *Watcher) Run(ctx context.Context, changed func([]placement.Interface)) error {
	for {
		err := w.session(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		if !w.told {
			return err
		}
		_ = level.Warn(w.logger).Log("msg", "interface watch interrupted, trying again", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
		}
	}
}

// session serves as long as its subscription works. The subscription is older than the first list, so
// that no change falls between the two.
func (w *Watcher) session(ctx context.Context, changed func([]placement.Interface)) error {
	sub, err := nl.Subscribe(unix.NETLINK_ROUTE,
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("subscribe to interface changes: %w", err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		sub.Close()
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer handle.Close()

	dirty := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return pump(ctx, dirty, func() error { _, _, err := sub.Receive(); return err })
	})
	err = follow(ctx, dirty, func() error { return w.tell(handle, changed) })
	sub.Close() // ends the pump
	return errors.Join(err, group.Wait())
}

// pump marks the interfaces as dirty for every message. Losing messages (ENOBUFS) is no different: what
// they said is in the next list.
func pump(ctx context.Context, dirty chan<- struct{}, receive func() error) error {
	for {
		err := receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil, errors.Is(err, syscall.ENOBUFS):
			select {
			case dirty <- struct{}{}:
			default:
			}
		default:
			return fmt.Errorf("receive interface changes: %w", err)
		}
	}
}

// follow runs tell at once and after each burst of changes, until ctx ends or tell fails.
func follow(ctx context.Context, dirty <-chan struct{}, tell func() error) error {
	for {
		if err := tell(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-dirty:
		}
		settle(ctx, dirty)
	}
}

// settle waits for the burst to end, but never long.
func settle(ctx context.Context, dirty <-chan struct{}) {
	deadline := time.After(patient)
	for {
		select {
		case <-ctx.Done():
			return
		case <-deadline:
			return
		case <-time.After(quiet):
			return
		case <-dirty:
		}
	}
}

func (w *Watcher) tell(handle *netlink.Handle, changed func([]placement.Interface)) error {
	list, err := list(handle)
	if err != nil {
		return err
	}
	if w.told && reflect.DeepEqual(list, w.last) {
		return nil
	}
	w.last, w.told = list, true
	changed(slices.Clone(list))
	return nil
}
