// Package sortedlist has sorted lists of which each version is a value that never changes. What differs little from
// another version shares nearly all of its memory with it: of ten thousand elements, an edit copies two hundred, and
// comparing two versions looks at as many.
package sortedlist
