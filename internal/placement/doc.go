// Package placement decides which node announces which address. It is pure: facts and members go in,
// verdicts come out, the same on every node that sees the same facts. It knows neither Kubernetes nor
// sockets, clocks or loggers; the speaker gathers the facts and carries the verdicts out.
package placement
