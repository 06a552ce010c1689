package membership

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/hashicorp/memberlist"
)

// keysMost bounds the keys of a file. Each packet that cannot be read is tried with all of them.
const keysMost = 16

// gossipKey is an AES-256 key.
type gossipKey [sha256.Size]byte

// fingerprint is a part of the key's sum.
func (k gossipKey) fingerprint() (f fingerprint) {
	sum := sha256.Sum256(append([]byte("fingerprint of a gossip key: "), k[:]...))
	copy(f[:], sum[:])
	return f
}

// parseKeys reads the content of a key file: a secret per line, the first one to encrypt with. Each key
// is the SHA-256 sum of its line without white space around it, so that any length does and a final
// newline is no trap. A plain sum adds no strength: a secret should be random, such as 32 bytes in base64.
func parseKeys(content []byte) ([]gossipKey, error) {
	var keys []gossipKey
	for line := range bytes.Lines(content) {
		secret := bytes.TrimSpace(line)
		if len(secret) == 0 || secret[0] == '#' {
			continue
		}
		if key := gossipKey(sha256.Sum256(secret)); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	switch {
	case len(keys) == 0:
		return nil, errors.New("gossip key is blank: its file must hold a secret, the same on every node")
	case len(keys) > keysMost:
		return nil, fmt.Errorf("%d gossip keys: at most %d, one per line", len(keys), keysMost)
	}
	return keys, nil
}

// newKeyring holds the keys, and encrypts with the last: the new ones are in front, and others may not
// have them yet.
func newKeyring(keys []gossipKey) (*memberlist.Keyring, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	all := make([][]byte, 0, len(keys))
	for _, k := range keys {
		all = append(all, slices.Clone(k[:]))
	}
	return memberlist.NewKeyring(all, all[len(all)-1])
}

// WatchKeyFile reads a key file every so often until ctx ends, and hands its content to set when it is
// another than the last time, beginning with what it holds first. Trouble is logged, and the keys stay.
// It reads rather than asks the kernel: Secrets are mounted as links that are swapped. It returns nil.
func WatchKeyFile(ctx context.Context, path string, every time.Duration, set func([]byte) error, logger log.Logger) error {
	w := keyFile{path: path, set: set}
	tick := time.NewTicker(every)
	defer tick.Stop()
	trouble := ""
	for {
		before := trouble
		trouble = ""
		if err := w.read(); err != nil {
			trouble = err.Error()
		}
		if trouble != before && trouble != "" {
			_ = level.Error(logger).Log("msg", "gossip keys stay as they are: can't take those of the key file", "err", trouble)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

type keyFile struct {
	path    string
	set     func([]byte) error
	content []byte // as it was last; nil before
	err     error  // what set said of it
}

// read hands the content on if it is new, and returns what is wrong with the file.
func (f *keyFile) read() error {
	content, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	if f.content == nil || !bytes.Equal(content, f.content) {
		f.content, f.err = append([]byte{}, content...), f.set(content)
	}
	return f.err
}
