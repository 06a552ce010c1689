// Package config turns API objects into a checked Snapshot of plain values. It is pure, and the only place
// where pools, advertisements and the selectors in them are judged: what it lets pass needs no second look.
// An object with a fault is left out of the Snapshot and harms nothing else.
package config
