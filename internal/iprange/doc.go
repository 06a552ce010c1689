// Package iprange holds sets of consecutive IP addresses: parsing, order, overlap and size.
// It is pure and knows both families.
package iprange
