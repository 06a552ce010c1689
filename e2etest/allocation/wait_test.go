package allocation

import (
	"time"

	"github.com/lanyard-lb/lanyard/e2etest/labtest"
)

// patience is how long a test waits for what the controller should do at once. It is long for a busy machine's sake.
const patience = 20 * time.Second

// What the suites have in common, by the names that this one calls it.
var (
	within     = labtest.Within
	afterwards = labtest.Afterwards
	must       = labtest.Must
	eventually = labtest.Eventually
	throughout = labtest.Throughout
	poll       = labtest.Poll
	decode     = labtest.Decode
)
