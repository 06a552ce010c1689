package labtest

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Within is the context of one step of a test.
func Within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Afterwards registers a step that undoes something when the test ends, however it ends.
func Afterwards(t *testing.T, undo func(ctx context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := undo(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
}

// Must ends the test at an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually asks every 20 ms until there is no error.
func Eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := Poll(ctx, f); err != nil {
		t.Fatalf("still after %v: %v", limit, err)
	}
}

// Throughout asks every 20 ms, for as long as said, and fails at the first error.
func Throughout(t *testing.T, span time.Duration, f func() error) {
	t.Helper()
	begun := time.Now()
	var fault error
	Eventually(t, span+time.Minute, func() error {
		if fault = f(); fault == nil && time.Since(begun) < span {
			return errors.New("the time is not over")
		}
		return nil
	})
	if fault != nil {
		t.Fatalf("after %v: %v", time.Since(begun).Round(time.Millisecond), fault)
	}
}

// Poll returns nil once f does, and otherwise the last error of f when the context ends.
func Poll(ctx context.Context, f func() error) error {
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
