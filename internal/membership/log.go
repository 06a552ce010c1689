package membership

import (
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

const (
	// logAgainAfter is how long the same line of memberlist's is held back: it logs once per packet or
	// probe what lasts for minutes.
	logAgainAfter = time.Minute
	// logRemembered bounds the lines remembered for that.
	logRemembered = 256
)

// anyPort is what differs between lines that say the same: the port of a connection.
var anyPort = regexp.MustCompile(`:\d+\b`)

// logAdapter is the writer under memberlist's *log.Logger. It takes one line per Write, as "[ERR]
// memberlist: text", and hands it to a go-kit logger with its level.
type logAdapter struct {
	logger log.Logger

	mu    sync.Mutex
	muted bool
	seen  map[string]*seenLine
}

type seenLine struct {
	at   time.Time
	held int
}

func newLogAdapter(logger log.Logger) *logAdapter {
	return &logAdapter{
		logger: log.With(logger, "component", "memberlist"),
		seen:   make(map[string]*seenLine),
	}
}

// Write implements io.Writer; it never fails.
func (a *logAdapter) Write(line []byte) (int, error) {
	leveled, text := splitLevel(strings.TrimSpace(string(line)))
	held, ok := a.admit(text, time.Now())
	if !ok {
		return len(line), nil
	}
	pairs := []any{"msg", text}
	if held > 0 {
		pairs = append(pairs, "repeated", held)
	}
	_ = leveled(a.logger).Log(pairs...)
	return len(line), nil
}

// mute drops everything from now on: memberlist's timers may fire once more after it was shut down.
func (a *logAdapter) mute() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.muted = true
}

// admit tells whether to log the text now, and how often it was held back since the last time.
func (a *logAdapter) admit(text string, now time.Time) (held int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.muted {
		return 0, false
	}
	key := anyPort.ReplaceAllString(text, "")
	last := a.seen[key]
	if last != nil && now.Sub(last.at) < logAgainAfter {
		last.held++
		return 0, false
	}
	if last != nil {
		held = last.held
	} else if len(a.seen) >= logRemembered {
		clear(a.seen)
	}
	a.seen[key] = &seenLine{at: now}
	return held, true
}

// splitLevel reads the mark that memberlist begins its lines with. A line without one is a warning.
func splitLevel(line string) (func(log.Logger) log.Logger, string) {
	mark, text, ok := strings.Cut(line, "] ")
	if !ok || !strings.HasPrefix(mark, "[") {
		return level.Warn, line
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	switch mark[1:] {
	case "TRACE", "DEBUG":
		return level.Debug, text
	case "INFO":
		return level.Info, text
	case "ERR", "ERROR":
		return level.Error, text
	default:
		return level.Warn, text
	}
}
