package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// table prints rows, the first of which is the header; with the header alone, nothing.
func (c *command) table(rows [][]string) error {
	if len(rows) < 2 {
		return nil
	}
	w := tabwriter.NewWriter(c.out, 0, 8, 3, ' ', 0)
	for _, r := range rows {
		for i := range r {
			r[i] = strings.Join(strings.Fields(r[i]), " ") // in one line, whatever it says
		}
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

func (c *command) json(v any) error {
	encoder := json.NewEncoder(c.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
