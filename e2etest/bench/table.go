package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Results are what one implementation showed: its figures, in the order of the table.
type Results struct {
	Implementation string
	Figures        []Figure
}

// add appends the values of figures to those of the same name, and new figures at the end.
func (r *Results) add(figures []Figure) {
	for _, f := range figures {
		i := slices.IndexFunc(r.Figures, func(have Figure) bool { return have.Name == f.Name })
		if i < 0 {
			r.Figures = append(r.Figures, f)
			continue
		}
		r.Figures[i].Ours = append(r.Figures[i].Ours, f.Ours...)
		r.Figures[i].Limit = append(r.Figures[i].Limit, f.Limit...)
	}
}

// Table writes a line for each figure, and beneath it one for each further implementation.
func Table(w io.Writer, all []Results) {
	header := []string{"figure", "", "n", "value", "lowest to highest", "limit", "ratio", "goal", "met", "the limit is"}
	lines := [][]string{header}
	var names []string
	for _, r := range all {
		for _, f := range r.Figures {
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	for _, name := range names {
		first := true
		for _, r := range all {
			for _, f := range r.Figures {
				if f.Name != name {
					continue
				}
				line := f.line()
				if line[1] = r.Implementation; !first {
					line[0], line[len(line)-1] = "", ""
				}
				first = false
				lines = append(lines, line)
			}
		}
	}
	if len(all) == 1 {
		for i, line := range lines {
			lines[i] = slices.Delete(line, 1, 2)
		}
	}
	align(w, lines)
}

// line is what the table says of a figure; the second cell is for the implementation.
func (f Figure) line() []string {
	line := []string{f.Name, "", strconv.Itoa(len(f.Ours)), "-", "", "", "", f.Goal.String(), f.Met(), ""}
	if len(f.Ours) > 0 {
		line[3] = number(f.Counts(f.Ours)) + " " + f.Unit
	}
	if len(f.Ours) > 1 {
		line[4] = number(slices.Min(f.Ours)) + " to " + number(slices.Max(f.Ours))
	}
	if len(f.Limit) > 0 {
		line[5], line[6], line[9] = number(f.Counts(f.Limit))+" "+f.Unit, number(f.Ratio()), f.Of
	}
	return line
}

// number has three digits that say something, or all before the point.
func number(v float64) string {
	if v == 0 || math.Abs(v) >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', max(0, 2-int(math.Floor(math.Log10(math.Abs(v))))), 64)
}

// align writes columns two spaces apart: the first to the left, numbers to the right.
func align(w io.Writer, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range lines {
		var out strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			left := i == 0 || i == len(line)-1
			if left {
				out.WriteString(cell + pad)
			} else {
				out.WriteString(pad + cell)
			}
			out.WriteString("  ")
		}
		fmt.Fprintln(w, strings.TrimRight(out.String(), " "))
	}
}
