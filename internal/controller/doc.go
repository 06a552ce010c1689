// Package controller is the loop that gives Services their addresses: it tells the ledger of pools and
// Services, and carries its decisions out as statuses, conditions and events.
package controller
