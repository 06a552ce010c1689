package kube

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/go-logr/logr"
)

// newLogr lets client-go and controller-runtime log through a go-kit logger: their verbosity 0 is info, all
// above is debug.
func newLogr(l log.Logger) logr.Logger { return logr.New(logSink{logger: l}) }

type logSink struct {
	logger log.Logger
	name   string
}

func (s logSink) Init(logr.RuntimeInfo) {}

// Enabled keeps out what client-go logs of every request and its body.
func (s logSink) Enabled(verbosity int) bool { return verbosity <= 4 }

func (s logSink) Info(verbosity int, msg string, pairs ...any) {
	to := level.Info(s.logger)
	if verbosity > 0 {
		to = level.Debug(s.logger)
	}
	_ = to.Log(slices.Concat([]any{"msg", msg}, s.component(), plain(pairs))...)
}

func (s logSink) Error(err error, msg string, pairs ...any) {
	_ = level.Error(s.logger).Log(slices.Concat([]any{"msg", msg, "err", err}, s.component(), plain(pairs))...)
}

// plain writes out the values that logfmt has no form for.
func plain(pairs []any) []any {
	pairs = slices.Clone(pairs)
	for i := 1; i < len(pairs); i += 2 {
		switch kind := reflect.ValueOf(pairs[i]).Kind(); kind {
		case reflect.Slice, reflect.Array, reflect.Map, reflect.Struct, reflect.Chan, reflect.Func:
			pairs[i] = fmt.Sprint(pairs[i])
		}
	}
	return pairs
}

func (s logSink) WithValues(pairs ...any) logr.LogSink {
	return logSink{logger: log.With(s.logger, pairs...), name: s.name}
}

func (s logSink) WithName(name string) logr.LogSink {
	if s.name != "" {
		name = s.name + "." + name
	}
	return logSink{logger: s.logger, name: name}
}

func (s logSink) component() []any {
	if s.name == "" {
		return nil
	}
	return []any{"component", s.name}
}
