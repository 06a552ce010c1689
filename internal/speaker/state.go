package speaker

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-kit/log/level"

	"github.com/lanyard-lb/lanyard/internal/membership"
	"github.com/lanyard-lb/lanyard/internal/placement"
	"github.com/lanyard-lb/lanyard/internal/sortedlist"
)

const (
	// stateFile is the one file in the state directory.
	stateFile = "cluster.json"
	// stateVersion changes with the meaning of the file; a file of another version is not used.
	stateVersion = 3
	// hoping is how long a speaker that starts waits for the API server before it goes by its state file.
	hoping = 3 * time.Second
	// keeping is the time over which changes are gathered before the file is written.
	keeping = time.Second
	// slack is how many bytes of changes may be added to the file before it is written anew, beside half its size.
	slack = 64 << 10
)

// knowledge is what the API server has told, as plain values: enough to go on without it. Nobody changes what it refers
// to.
type knowledge struct {
	Cluster  *placement.Cluster
	Services sortedlist.List[*placement.Service] // sorted by name
	Peers    []membership.Peer
	Running  map[string]bool // the nodes whose speaker is ready, or was when it was heard of last
}

// line is one line of the state file, in JSON. The first has what is not told by Services, and how many of them follow,
// a line each. After these, each line says what is another way since: all that it does not name is as it was.
type line struct {
	Version int `json:",omitempty"` // of the first line
	Count   int `json:",omitempty"` // of the first line

	Cluster *placement.Cluster `json:",omitempty"`
	Nodes   *speakers          `json:",omitempty"`
	Service *placement.Service `json:",omitempty"`
	Gone    string             `json:",omitempty"` // the name of a Service
}

// speakers are the Peers and Running of knowledge.
type speakers struct {
	Peers   []membership.Peer
	Running map[string]bool
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
	k := keeper{path: filepath.Join(s.StateDir, stateFile)}
	defer k.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.learned:
		}
		s.mu.Lock()
		now := *s.observed
		s.mu.Unlock()
		if err := k.keep(now); err != nil {
			_ = level.Error(s.Logger).Log("msg", "could not keep the state of the cluster", "err", err)
		}
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
	if !spoken {
		s.observed = &k
		s.Membership.SetPeers(k.Peers)
	}
	s.mu.Unlock()
	if spoken {
		return
	}
	_ = level.Warn(s.Logger).Log("msg", "the API server is away: going by the state file", "services", k.Services.Len(), "speakers", len(k.Peers))
	touch(s.dirty)
}

// readState reads the file up to the first line that is not whole: whoever wrote it may have been stopped in the middle.
// What was written at once must be there.
func readState(path string) (knowledge, error) {
	file, err := os.Open(path)
	if err != nil {
		return knowledge{}, fmt.Errorf("read the state file: %w", err)
	}
	defer func() { _ = file.Close() }()
	lines := json.NewDecoder(bufio.NewReader(file))
	var first line
	if err := lines.Decode(&first); err != nil {
		return knowledge{}, fmt.Errorf("read the state file %s: %w", path, err)
	}
	if first.Version != stateVersion || first.Cluster == nil || first.Nodes == nil {
		return knowledge{}, fmt.Errorf("state file %s is of version %d, not %d", path, first.Version, stateVersion)
	}
	k := knowledge{Cluster: first.Cluster, Peers: first.Nodes.Peers, Running: first.Nodes.Running}
	services := map[string]*placement.Service{}
	for n := 0; ; n++ {
		var l line
		if err := lines.Decode(&l); err != nil {
			if n < first.Count {
				return knowledge{}, fmt.Errorf("read the state file %s: Service %d of %d: %w", path, n+1, first.Count, err)
			}
			break
		}
		if l.Service != nil {
			services[l.Service.Name] = l.Service
		}
		delete(services, l.Gone)
		if l.Cluster != nil {
			k.Cluster = l.Cluster
		}
		if l.Nodes != nil {
			k.Peers, k.Running = l.Nodes.Peers, l.Nodes.Running
		}
	}
	k.Services = sortedlist.Of(slices.SortedFunc(maps.Values(services), byName))
	return k, nil
}

// keeper keeps the state file: it adds what changes, and writes the file anew when that has become much. Then the file
// is replaced as a whole. A crash leaves what was kept, but for the last of it.
type keeper struct {
	path string
	kept knowledge // what the file says, if there is a file
	file *os.File  // nil: it is to be written anew
	size int64     // of the file when it was written
	more int64     // bytes added since
}

// keep has the file say what is known now.
func (k *keeper) keep(now knowledge) error {
	var err error
	if k.file == nil || k.more > k.size/2+slack || !k.there() {
		err = k.replace(now)
	} else {
		err = k.add(now)
	}
	if err != nil {
		k.close() // what it says now is not known
		return fmt.Errorf("write the state file: %w", err)
	}
	k.kept = now
	return nil
}

// there reports whether the file is the one that we have written.
func (k *keeper) there() bool {
	ours, err := k.file.Stat()
	if err != nil {
		return false
	}
	is, err := os.Stat(k.path)
	return err == nil && os.SameFile(ours, is)
}

func (k *keeper) close() {
	if k.file != nil {
		_ = k.file.Close()
		k.file = nil
	}
}

// replace writes the file anew.
func (k *keeper) replace(now knowledge) error {
	k.close()
	file, err := os.OpenFile(k.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	k.file = file
	buffer := bufio.NewWriter(file)
	lines := json.NewEncoder(buffer)
	err = lines.Encode(line{Version: stateVersion, Count: now.Services.Len(), Cluster: now.Cluster, Nodes: &speakers{now.Peers, now.Running}})
	for s := range now.Services.All() {
		if err == nil {
			err = lines.Encode(line{Service: s})
		}
	}
	if err := errors.Join(err, buffer.Flush()); err != nil {
		return err
	}
	if k.size, err = file.Seek(0, io.SeekCurrent); err != nil {
		return err
	}
	k.more = 0
	return os.Rename(k.path+".new", k.path)
}

// add adds what is another way now than the file says.
func (k *keeper) add(now knowledge) error {
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	var errs []error
	tell := func(l line) { errs = append(errs, lines.Encode(l)) }
	if now.Cluster != k.kept.Cluster {
		tell(line{Cluster: now.Cluster})
	}
	if !slices.Equal(now.Peers, k.kept.Peers) || !maps.Equal(now.Running, k.kept.Running) {
		tell(line{Nodes: &speakers{now.Peers, now.Running}})
	}
	sortedlist.Differences(k.kept.Services, now.Services, byName, func(was, now *placement.Service) {
		if now != nil {
			tell(line{Service: now})
		} else {
			tell(line{Gone: was.Name})
		}
	})
	if err := errors.Join(errs...); err != nil || text.Len() == 0 {
		return err
	}
	n, err := k.file.Write(text.Bytes())
	k.more += int64(n)
	return err
}

func byName(a, b *placement.Service) int { return cmp.Compare(a.Name, b.Name) }
