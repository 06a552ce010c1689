// Command chart keeps the Helm chart and the kustomize manifests in step. From the repository's root:
//
//	chart generate   copies what the chart shares with config/, and writes the schema of pools into values.schema.json
//	chart verify     renders the chart in many ways and checks what comes out, without network or cluster
package main

import (
	"fmt"
	"os"
	"time"
)

const (
	chartDir = "charts/lanyard"
	// release and namespace are those that names are plain in, and that config/ has.
	release   = "lanyard"
	namespace = "lanyard-system"
)

func main() {
	commands := map[string]func() error{"generate": generate, "verify": verify}
	if len(os.Args) != 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: chart generate|verify")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n", err)
		os.Exit(1)
	}
}

// verify makes all checks, and fails after the last one when one of them did.
func verify() error {
	checks := []struct {
		name string
		do   func() error
	}{
		{"lint", checkLint},
		{"two renders are equal, and hold no secret", checkRepeat},
		{"helm 3 renders what helm 4 does", checkHelm3},
		{"chart and kustomize render the same", checkParity},
		{"objects are as the API's schemas say", checkSchemas},
		{"wrong values are refused by name", checkRefusals},
		{"two releases live together", checkTwoReleases},
	}
	failed := 0
	for _, c := range checks {
		begun := time.Now()
		if err := c.do(); err != nil {
			failed++
			fmt.Printf("FAILED  %s\n%v\n", c.name, err)
			continue
		}
		fmt.Printf("ok      %s (%.1fs)\n", c.name, time.Since(begun).Seconds())
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks of the chart failed", failed, len(checks))
	}
	return nil
}
