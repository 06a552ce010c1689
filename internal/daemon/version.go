package daemon

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// Version is the version of this program, as in v1.2.3; the linker sets it. Empty: see VersionName.
var Version string

// VersionName is Version, or, in a program that was built without one, the commit that it was built from, if known,
// or "unknown".
func VersionName() string {
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return cmp.Or(Version, revision, "unknown")
}

// PrintVersion writes one line about the program.
func PrintVersion(w io.Writer, program string) {
	fmt.Fprintf(w, "%s %s (%s, %s/%s)\n", program, VersionName(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
