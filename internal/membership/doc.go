// Package membership keeps the list of speakers that are alive, and carries what each tells the others of
// itself: its interfaces, and what it claims. It decides nothing about addresses.
//
// # Who is alive
//
// That is memberlist's business (SWIM with Lifeguard's extensions): probes find dead members, and one that
// stops says so. We add that the peers that ought to be there are joined again for as long as they are
// missing (join.go), so that a partition heals without anybody's help: memberlist never asks again for a
// member that it holds for dead. And who is said to have died is asked himself, as that may be stale
// (deaths.go). The roster is who is alive; the transport makes memberlist end in time.
//
// # What is told
//
// A node's report travels in items (item.go): a claim, an interface, and what there is once. Each publication
// that changes something is a version of the report, with the next number; an item bears the number of the
// version that changed it. The newer one stays, so packets may come late, twice, in any order or never. A
// life, which begins with Run, is a number too, the time: what is of an earlier life doesn't count. A node
// that hears of a later life of its own (its clock went back) begins one that is later still.
//
// With a version goes a digest of all items in it. When those at hand add up to it, the report is complete;
// until that happened once, Reports doesn't have it (report.go). Then what was taken out need not be
// remembered: whatever is older than a complete version, and not in it, is gone.
//
// # How it goes out
//
// Changes of ours go at once to sixteen others, and to those named as successors (packet.go). Everybody passes
// on by gossip what is news to him (outbox.go). Of very many changes gossip tells only that they are there.
// And whenever two members exchange their states, as in joining, all reports go with it. The carrier joins
// all this to memberlist; the codec has the format.
//
// # How a gap is noticed and healed
//
// Gossip is allowed to lose things. A member that has heard of a version and has not completed it soon asks
// the node itself, or another where that does not help, over a connection. A version that it has not even
// heard of it notices by the answers to its probes: they bear the digest of all reports, and when nothing has
// changed for a moment, different digests make it ask for what differs. After a partition so much is missing
// that one member is asked for all (gap.go). What is remembered of a member that was gone doesn't count
// until somebody who knows has confirmed it.
//
// # How keys change
//
// Each node tells, in its report, which gossip keys it holds and which it encrypts with. A new key is
// installed at once, used when all others hold it, and one that is not in the file any more is dropped when
// nobody uses it (rotate.go). While a node is alone it tries its keys in turn.
package membership
