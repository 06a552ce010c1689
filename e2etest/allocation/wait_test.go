package allocation

import (
	"context"
	"errors"
	"testing"
	"time"
)

// patience is how long a test waits for what the controller should do at once. It is long for a busy machine's sake.
const patience = 20 * time.Second

// within is the context of one step of a test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// afterwards registers a step that undoes something when the test ends, however it ends.
func afterwards(t *testing.T, undo func(ctx context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := undo(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks every 20 ms until there is no error.
func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := poll(ctx, f); err != nil {
		t.Fatalf("still after %v: %v", limit, err)
	}
}

// throughout asks every 20 ms, for as long as said, and fails at the first error.
func throughout(t *testing.T, span time.Duration, f func() error) {
	t.Helper()
	begun := time.Now()
	eventually(t, span+time.Minute, func() error {
		if err := f(); err != nil {
			t.Fatalf("after %v: %v", time.Since(begun).Round(time.Millisecond), err)
		}
		if time.Since(begun) < span {
			return errors.New("the time is not over")
		}
		return nil
	})
}

// poll returns nil once f does, and otherwise the last error of f when the context ends.
func poll(ctx context.Context, f func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
