// Package netspace makes, enters and removes named network namespaces, the ones that `ip netns` lists. A function run
// by Namespace.Do sees only that namespace, and a socket opened there stays there for good.
package netspace
