// Package layer2 tests who announces an address on the LAN, and how: that it has one owner, that it stays where it is as
// long as it can, that it is somewhere else in no time when it cannot, and that nobody loses anything when it moves by
// plan. What the frames on the switch say counts for more than a reply.
//
// The tests of a file share a lab, as in the package suite beside this one. The behaviours that MetalLB's own end-to-end suite
// asserts are rows T1 to T12 of a list; each is named at the test that shows it: T1 at TestAnswers and localTraffic in
// suite, T2 and T6 at TestReporting, T3 at TestEligibility, T4 at manyRanges in suite, T7 at askingForPools in allocation, T5 at sharedAddress, T8 at
// chosenNodes in suite, T9 at TestSegments, T10 at serviceSelectors, T11 at TestPreference, T12 at TestFailover. What it
// does not test (row T24) is the rest of this package.
package layer2
