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
			f.Ours, f.Limit = slices.Clip(f.Ours), slices.Clip(f.Limit) // figures may be parts of one slice
			r.Figures = append(r.Figures, f)
			continue
		}
		r.Figures[i].Ours = append(r.Figures[i].Ours, f.Ours...)
		r.Figures[i].Limit = append(r.Figures[i].Limit, f.Limit...)
	}
}

// Table writes a line for each figure, beneath it one for each further implementation, and at the end what the limits are.
func Table(w io.Writer, all []Results) {
	lines := [][]string{{"figure", "", "n", "value", "lowest to highest", "limit", "ratio", "goal", "met"}}
	var limits []string
	for _, name := range figureNames(all) {
		called := name
		for _, r := range all {
			i := slices.IndexFunc(r.Figures, func(f Figure) bool { return f.Name == name })
			if i < 0 {
				continue
			}
			f := r.Figures[i]
			line := f.line()
			line[0], line[1], called = called, r.Implementation, ""
			if len(f.Limit) > 0 {
				if !slices.Contains(limits, f.Of) {
					limits = append(limits, f.Of)
				}
				line[5] += " " + mark(slices.Index(limits, f.Of))
			}
			lines = append(lines, line)
		}
	}
	if len(all) == 1 {
		for i, line := range lines {
			lines[i] = slices.Delete(line, 1, 2)
		}
	}
	align(w, lines)
	for i, limit := range limits {
		fmt.Fprintf(w, "limit %s: %s\n", mark(i), limit)
	}
}

// mark is a letter, or more, that stands for a limit.
func mark(i int) string {
	if i >= 26 {
		return mark(i/26-1) + mark(i%26)
	}
	return string(rune('a' + i))
}

// figureNames are those of all implementations, each once.
func figureNames(all []Results) (names []string) {
	for _, r := range all {
		for _, f := range r.Figures {
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	return names
}

// line is what the table says of a figure; the second cell is for the implementation.
func (f Figure) line() []string {
	line := []string{f.Name, "", strconv.Itoa(len(f.Ours)), "-", "", "", "", f.Goal.String(), f.Met()}
	if len(f.Ours) > 0 {
		line[3] = strings.TrimSpace(number(f.Counts(f.Ours)) + " " + f.Unit)
	}
	if len(f.Ours) > 1 {
		line[4] = number(slices.Min(f.Ours)) + " to " + number(slices.Max(f.Ours))
	}
	if len(f.Limit) > 0 {
		limit := f.Counts(f.Limit)
		line[5] = strings.TrimSpace(number(limit) + " " + f.Unit)
		if limit > 0 {
			line[6] = number(f.Ratio())
		}
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

// align writes columns two spaces apart: the first to the left, the others to the right.
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
			if i == 0 {
				out.WriteString(cell + pad)
			} else {
				out.WriteString(pad + cell)
			}
			out.WriteString("  ")
		}
		fmt.Fprintln(w, strings.TrimRight(out.String(), " "))
	}
}
