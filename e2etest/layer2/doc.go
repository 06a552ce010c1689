// Package layer2 tests who announces an address on the LAN, and how: that it has one owner, that it stays where it is as
// long as it can, that it is somewhere else in no time when it cannot, and that nobody loses anything when it moves by
// plan. What the frames on the switch say counts for more than a reply.
//
// The tests of a file share a lab, as in the package suite beside this one. What MetalLB's own end-to-end suite asserts of
// layer 2 is the least that these show. By the rows of our list of that:
//
//   - T1, reachable by either traffic policy: carryTraffic and localTraffic in suite
//   - T2, the status names the node that the event names: announcementStatus, afterFailover
//   - T3, NetworkUnavailable and the exclusion label: TestEligibility
//   - T4, ranges and CIDRs: manyRanges in suite
//   - T5, a shared address has one owner: sharedAddress
//   - T6, metrics: metrics here, and metrics in allocation
//   - T7, asking for a pool: askingForPools in allocation
//   - T8, node selectors: chosenNodes in suite
//   - T9, interface selectors: TestSegments, TestInterfaces in suite
//   - T10, service selectors: serviceSelectors
//   - T11, preferred nodes: preferred, addUp, rebalanceNow
//   - T12, a speaker that goes: TestFailover
//   - T24, what that suite does not test: the rest of this package
package layer2
