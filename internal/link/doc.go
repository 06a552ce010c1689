// Package link tells what network interfaces this node has: their state, MAC addresses and subnets, from a
// netlink subscription. It never polls, changes nothing and needs no capability.
package link
