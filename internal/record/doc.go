// Package record is the durable memory of who holds an address and who held it before: blocks of 64 addresses,
// the changes that may be made to them, and their form as API objects. It is pure; it refuses every change that
// would give an address to somebody beside a holder that the caller does not know of.
package record
