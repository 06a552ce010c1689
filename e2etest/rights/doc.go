// Package rights puts what a service account may do at the API server beside what it has done there: its rules on one side,
// the API server's audit log on the other. A right that is never used is a right too many; a request that was refused is
// one too few.
package rights
