// Package membership keeps the list of speakers that are alive. Its one job is gossip between them, with
// memberlist (SWIM with Lifeguard's extensions): probes find dead members, a member that stops says so,
// and the members that ought to be there (the endpoints of the speakers) are joined again for as long as
// they are missing, so that a partition heals without anybody's help. By the same gossip each tells the
// others its report: its interfaces, and what it claims. It decides nothing about addresses.
package membership
