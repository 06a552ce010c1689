package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// profile begins to take the CPU profiles of both daemons, of so many seconds, if they are wanted. The function that it
// returns waits for them.
func (c *costs) profile(ctx context.Context, what string, seconds int) (wait func() error) {
	return c.fetchProfiles(ctx, what, "profile", fmt.Sprintf("?seconds=%d", seconds))
}

// fetchProfiles begins to fetch a kind of profile of both daemons.
func (c *costs) fetchProfiles(ctx context.Context, what, kind, query string) (wait func() error) {
	done := make(chan error, len(daemons))
	started := 0
	for _, d := range []struct {
		name, host string
		Daemon
	}{{"controller", controlPlane, c.Implementation.Controller}, {"speaker", c.Node(1), c.Implementation.Speaker}} {
		if c.b.Profiles == "" || d.Pprof == "" {
			continue
		}
		file := strings.Map(plainName, fmt.Sprintf("%s-%s-%s-%s.pprof", c.Implementation.Name, d.name, kind, what))
		started++
		go func() { done <- c.fetchProfile(ctx, d.host, d.Pprof+"/"+kind+query, filepath.Join(c.b.Profiles, file)) }()
	}
	return func() (err error) {
		for range started {
			err = errors.Join(err, <-done)
		}
		return err
	}
}

// plainName keeps what no shell minds in the name of a file.
func plainName(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '-':
		return r
	case r == ' ':
		return '-'
	}
	return -1
}

// fetchProfile writes what a URL of a host returns into a file.
func (s *Site) fetchProfile(ctx context.Context, host, url, file string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DialContext: s.Host(host).DialContext, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("take a profile on %s: %w", host, err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, raw)
	}
	if err != nil {
		return fmt.Errorf("take a profile on %s: %w", host, err)
	}
	return os.WriteFile(file, raw, 0o644)
}
