// Package soak lives at random in a lab for as long as one likes: Services of all kinds are made, edited and deleted, pools grow and
// shrink, nodes, speakers, controllers and the API server go and come back, a stranger takes addresses. All the while it checks
// what must always hold, and that no process uses more and more:
//
//   - History sees every version of every Service and pool: no address in two statuses, none lost without a reason, nobody taken
//     for a stranger who is none;
//   - Judge asks the LAN for every address, about once a second, and compares who answers with who must, may and must not;
//   - Rest compares everything with everything whenever all faults are mended and nothing is done;
//   - Trend compares what each process uses at the beginning and at the end.
//
// The deeds follow from a seed (see Plan); what comes of them depends on the machine, too. History, Judge, Rest and Trend decide by plain
// values; Stage and Run do what has to do with the lab.
package soak
