package membership

import (
	stdlog "log"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogAdapterLevels(t *testing.T) {
	for in, want := range map[string]string{
		"[DEBUG] memberlist: a b":     `level=debug component=memberlist msg="a b"`,
		"[INFO] memberlist: a":        `level=info component=memberlist msg=a`,
		"[WARN] memberlist: a":        `level=warn component=memberlist msg=a`,
		"[ERR] memberlist: a: b=c":    `level=error component=memberlist msg="a: b=c"`,
		"[ERROR] memberlist: a":       `level=error component=memberlist msg=a`,
		"[ERR] Failed to shut down":   `level=error component=memberlist msg="Failed to shut down"`,
		"Err: Could not set it":       `level=warn component=memberlist msg="Err: Could not set it"`,
		"no [ERR] memberlist: inside": `level=warn component=memberlist msg="no [ERR] memberlist: inside"`,
	} {
		book := &logBook{}
		stdlog.New(newLogAdapter(book.logger()), "", 0).Print(in)
		if got := strings.TrimSpace(book.String()); got != want {
			t.Errorf("%q\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestLogAdapterHoldsBackRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &logBook{}
		a := newLogAdapter(book.logger())
		l := stdlog.New(a, "", 0)
		l.Print("[ERR] memberlist: refused from=10.0.0.3:40001")
		l.Print("[ERR] memberlist: refused from=10.0.0.3:40002")
		l.Print("[ERR] memberlist: refused from=10.0.0.4:40001")
		<-time.After(logAgainAfter)
		l.Print("[ERR] memberlist: refused from=10.0.0.3:40003")
		l.Print("[ERR] memberlist: refused from=10.0.0.3:40004")
		if got := book.count("10.0.0.3"); got != 2 {
			t.Errorf("%d lines about 10.0.0.3, want 2:\n%s", got, book)
		}
		if book.count("10.0.0.3", "repeated=1") != 1 || book.count("10.0.0.4") != 1 {
			t.Errorf("log:\n%s", book)
		}
		for i := range 3 * logRemembered {
			l.Printf("[WARN] memberlist: line %d", i)
		}
		if len(a.seen) > logRemembered {
			t.Errorf("remembers %d lines", len(a.seen))
		}
		before := book.String()
		a.mute()
		l.Print("[ERR] memberlist: too late")
		if book.String() != before {
			t.Error("logs after mute")
		}
	})
}
