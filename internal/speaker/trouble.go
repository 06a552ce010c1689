package speaker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-kit/log/level"
	corev1 "k8s.io/api/core/v1"

	"github.com/lanyard-lb/lanyard/internal/membership"
)

const (
	// lasting is how long gossip with a peer must have been in trouble to be spoken of: those that start or
	// stop are missing for a while, too.
	lasting = 10 * time.Second
	// inspecting is how often it is looked at.
	inspecting = time.Second
)

// troubles are the peers that gossip does not reach, although the API server says that they run.
type troubles struct {
	since map[string]time.Time // by peer
	told  map[string]string    // why, for those that have been spoken of
	err   error                // what is wrong with this node, as far as can be told
}

// inspect watches how the gossip fares, until ctx ends.
func (s *Speaker) inspect(ctx context.Context) error {
	ticker := time.NewTicker(inspecting)
	defer ticker.Stop()
	t := troubles{since: map[string]time.Time{}, told: map[string]string{}}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		s.Metrics.gossip(s.Membership.Health())
		began, ended := t.look(s.running(), s.Membership.Problems(), time.Now())
		s.mu.Lock()
		s.troubled = t.err
		s.mu.Unlock()
		s.Metrics.troubled(t.told)
		for _, peer := range began {
			note := fmt.Sprintf("gossip does not reach the speaker of %s: %s", peer, t.told[peer])
			_ = level.Warn(s.Logger).Log("msg", "gossip does not reach a peer that should run", "peer", peer, "reason", t.told[peer])
			s.NodeEvent(s.Node, corev1.EventTypeWarning, "GossipBlocked", "Gossip", note)
		}
		for _, peer := range ended {
			_ = level.Info(s.Logger).Log("msg", "gossip reaches a peer again, or it is not wanted any more", "peer", peer)
			s.NodeEvent(s.Node, corev1.EventTypeNormal, "GossipRestored", "Gossip", "gossip reaches the speaker of "+peer+" again, or it is gone")
		}
	}
}

// running are the peers that should run, as the API server says, beside us.
func (s *Speaker) running() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.observed == nil {
		return nil
	}
	running := maps.Clone(s.observed.Running)
	delete(running, s.Node)
	return running
}

// look takes in which peers are missing and why, and returns those of which it is new that they are, or are not
// any more.
func (t *troubles) look(running map[string]bool, problems map[string]string, now time.Time) (began, ended []string) {
	for peer := range t.since {
		if _, still := problems[peer]; !still || !running[peer] {
			delete(t.since, peer)
			if _, told := t.told[peer]; told {
				ended = append(ended, peer)
			}
			delete(t.told, peer)
		}
	}
	for peer, why := range problems {
		if !running[peer] {
			continue
		}
		if t.since[peer].IsZero() {
			t.since[peer] = now
		}
		if now.Sub(t.since[peer]) >= lasting && t.told[peer] != why {
			if t.told[peer] == "" {
				began = append(began, peer)
			}
			t.told[peer] = why
		}
	}
	t.err = t.verdict(len(running))
	slices.Sort(began)
	slices.Sort(ended)
	return began, ended
}

// verdict is what the troubles say of this node: of one that has another key than a peer, and of one that is
// alone, it is as likely to be the cause as the other side.
func (t *troubles) verdict(running int) error {
	var reasons []string
	for peer, why := range t.told {
		if strings.HasPrefix(why, "wrong key") {
			reasons = append(reasons, peer+": "+why)
		}
	}
	slices.Sort(reasons)
	switch {
	case running > 0 && len(t.told) == running:
		for _, why := range t.told {
			return fmt.Errorf("gossip reaches none of the %d other speakers: %s", running, why)
		}
	case len(reasons) > 0:
		return errors.New("gossip is refused: " + strings.Join(reasons, "; "))
	}
	return nil
}

var _ Membership = (*membership.Gossip)(nil)
