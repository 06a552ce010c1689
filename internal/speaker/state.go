package speaker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-kit/log/level"

	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
)

const (
	// stateFile is the one file in the state directory.
	stateFile = "cluster.json"
	// stateVersion changes with the meaning of the file; a file of another version is not used.
	stateVersion = 2
	// hoping is how long a speaker that starts waits for the API server before it goes by its state file.
	hoping = 3 * time.Second
	// keeping is the time over which changes are gathered before the file is written.
	keeping = time.Second
)

// knowledge is what the API server has told, as plain values: enough to go on without it.
type knowledge struct {
	Version int
	Facts   placement.Facts
	Peers   []membership.Peer
}

// remember goes by the state file when the API server is away as we start, and keeps the file current from
// then on. Without the file the speaker works all the same, so nothing here is an error of Run.
func (s *Speaker) remember(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.learned:
		touch(s.learned)
	case <-time.After(hoping):
		s.recall()
	}
	var last []byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.learned:
		}
		written, err := s.keep(last)
		if err != nil {
			_ = level.Error(s.Logger).Log("msg", "could not keep the state of the cluster", "err", err)
		}
		last = written
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(keeping):
		}
	}
}

// recall takes the state file for what is known, unless the API server has spoken meanwhile.
func (s *Speaker) recall() {
	k, err := readState(filepath.Join(s.StateDir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		_ = level.Error(s.Logger).Log("msg", "the state file is of no use", "err", err)
		return
	}
	s.mu.Lock()
	spoken := s.observed != nil
	s.mu.Unlock()
	if spoken {
		return
	}
	_ = level.Warn(s.Logger).Log("msg", "the API server is away: going by the state file", "services", len(k.Facts.Services), "speakers", len(k.Peers))
	s.know(k, nil)
}

func readState(path string) (knowledge, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return knowledge{}, fmt.Errorf("read the state file: %w", err)
	}
	var k knowledge
	if err := json.Unmarshal(data, &k); err != nil {
		return knowledge{}, fmt.Errorf("read the state file %s: %w", path, err)
	}
	if k.Version != stateVersion {
		return knowledge{}, fmt.Errorf("state file %s is of version %d, not %d", path, k.Version, stateVersion)
	}
	return k, nil
}

// keep writes the state file when it would differ from what was written last, and returns what it holds. The
// file is replaced as a whole: a crash leaves the old one or the new one.
func (s *Speaker) keep(last []byte) ([]byte, error) {
	s.mu.Lock()
	k := *s.observed
	s.mu.Unlock()
	k.Version = stateVersion
	data, err := json.Marshal(k)
	if err != nil {
		return last, fmt.Errorf("encode the state: %w", err)
	}
	if bytes.Equal(data, last) {
		return last, nil
	}
	path := filepath.Join(s.StateDir, stateFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return last, fmt.Errorf("write the state file: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return last, fmt.Errorf("write the state file: %w", err)
	}
	return data, nil
}
