//go:build race

package membership

import (
	"os"
	"runtime"
	"testing"
)

// TestMain has the tests run on one processor: on several, Go 1.26's race detector crashes in about one of a hundred bubbles
// (StackDepotBase, called by racegostart). It goes by what happens before what, so it finds as much.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}
