package bench

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStride: all are visited before any again, and the first few come from all over.
func TestStride(t *testing.T) {
	for _, n := range []int{1, 2, 3, 6, 20, 50, 618, 1000, 2000, 10000, 15000} {
		seen, high := map[int]bool{}, 0
		for i := range n {
			at := i * stride(n) % n
			seen[at] = true
			if i < 20 {
				high = max(high, at)
			}
		}
		if len(seen) != n || high < n*8/10 {
			t.Errorf("of %d, %d are visited, the first up to %d", n, len(seen), high)
		}
	}
}

// TestFlood: it goes on until it is told to stop, at the pace, and tells how much it was.
func TestFlood(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{fd: fds[0]}
	read := make(chan int)
	go func() {
		n, buf := 0, make([]byte, 8)
		for size := 1; size > 0; n++ {
			size, _ = unix.Read(fds[1], buf)
		}
		read <- n - 1
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	sent, err := w.flood(ctx, 2, []question{{frame: []byte{1}}, {frame: []byte{2}}})
	took := time.Since(begun)
	if _, end := unix.Write(fds[0], nil); end != nil {
		t.Fatal(end)
	}
	if got := <-read; err != nil || sent != got || sent == 0 || sent > 2*int(took.Milliseconds()+1) {
		t.Errorf("%v, %d are sent in %v, %d are read", err, sent, took, got)
	}
	w.close()
	_ = unix.Close(fds[1])
}

// TestAskTwiceAnswered: a second copy of an answer is none to the next question.
func TestAskTwiceAnswered(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	wait := unix.NsecToTimeval(answerWithin.Nanoseconds() / 10)
	if err := unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	w := &wire{fd: fds[0], buf: make([]byte, 2048)}
	defer w.close()
	ip := netip.MustParseAddr("10.78.0.1")
	reply := make([]byte, arpEnd)
	copy(reply[arpSender:], ip.AsSlice())
	answer := func(times int) {
		if _, err := unix.Read(fds[1], make([]byte, 2048)); err != nil {
			t.Error(err)
		}
		for range times {
			if _, err := unix.Write(fds[1], reply); err != nil {
				t.Error(err)
			}
		}
	}
	done := make(chan struct{})
	go func() { answer(2); close(done) }()
	if _, ok, err := w.ask(question{make([]byte, arpEnd), ip}); !ok || err != nil {
		t.Fatal("no answer: ", err)
	}
	<-done
	go answer(0)
	if took, ok, err := w.ask(question{make([]byte, arpEnd), ip}); ok || err != nil {
		t.Errorf("answered after %v: %v", took, err)
	}
}

func TestLost(t *testing.T) {
	if have := (asked{micros: []float64{1, 2, 3}, unanswered: 1}).lost(); have != 25 {
		t.Errorf("%v %% are lost, want 25", have)
	}
	if have := (asked{}).lost(); have != 0 {
		t.Errorf("%v %% of nothing are lost", have)
	}
}
