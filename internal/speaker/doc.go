// Package speaker is the loop that runs on every node: it gathers the facts (what the API server holds, who
// is alive, which interfaces the node has), lets placement decide and tells the announcer what to hold.
package speaker
