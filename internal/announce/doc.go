// Package announce is the seam between deciding and announcing: what every announcer (ARP and NDP now,
// others later) offers to the speaker. Its subpackages are the announcers, and announcetest is the
// contract that each of them passes.
package announce
