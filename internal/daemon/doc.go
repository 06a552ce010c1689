// Package daemon holds what the controller's and the speaker's mains have in common: flags, logger, signals.
package daemon
