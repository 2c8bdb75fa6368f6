package main

import (
	"fmt"
	"slices"
	"strings"
)

// spread is min, median and max of several rounds.
type spread struct{ min, median, max float64 }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	s := slices.Sorted(slices.Values(values))
	m := s[len(s)/2]
	if len(s)%2 == 0 {
		m = (s[len(s)/2-1] + m) / 2
	}
	return spread{s[0], m, s[len(s)-1]}
}

func (s spread) format(f string) string {
	return fmt.Sprintf(f+" / "+f+" / "+f, s.min, s.median, s.max)
}

// finding is one row of the summary.
type finding struct {
	what, target, got string
	ok                bool
}

// report collects what the stages found.
type report struct {
	findings []finding
	sections []string
}

func (r *report) find(ok bool, what, target, got string, args ...any) {
	r.findings = append(r.findings, finding{what, target, fmt.Sprintf(got, args...), ok})
}

// table adds a section: how it was got, a header and its rows.
func (r *report) table(title, how string, header []string, rows [][]string) {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n", title, strings.TrimSpace(how))
	if len(rows) > 0 {
		fmt.Fprintf(&b, "\n| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
		for _, row := range rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
	}
	r.sections = append(r.sections, b.String())
}

func (r *report) markdown(head string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmark results\n\n%s\n\n| what | target | measured | |\n|---|---|---|---|\n", strings.TrimSpace(head))
	for _, f := range r.findings {
		verdict := "met"
		if !f.ok {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.what, f.target, f.got, verdict)
	}
	for _, s := range r.sections {
		b.WriteString("\n" + s)
	}
	return b.String()
}

// percentile of values, by the nearest rank.
func percentile(values []float64, p int) float64 {
	s := slices.Sorted(slices.Values(values))
	return s[max(0, (len(s)*p+99)/100-1)]
}
