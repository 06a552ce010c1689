package membership

import (
	"bytes"
	"context"
	"os"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

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
