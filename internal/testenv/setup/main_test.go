package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func TestSetupNamesAllThatIsMissing(t *testing.T) {
	t.Parallel()
	absent := func() (string, error) { return "", fmt.Errorf("x: %w", testenv.ErrMissing) }
	builds := 0
	var out strings.Builder
	err := setup(&out, []testenv.Part{
		{Name: "Here", Find: func() (string, error) { return "/opt/here", nil }},
		{Name: "Built", Find: absent, Build: func() (string, error) { builds++; return "/opt/built", nil }},
		{Name: "Broken", Find: absent, Build: func() (string, error) { return "", errors.New("does not compile") }},
		{Name: "Nowhere", Find: absent},
		// A machine that is set up wrongly is told so, not installed over.
		{Name: "Odd", Debian: "odd", Find: func() (string, error) { return "", errors.New("is no folder") }},
	})
	if err == nil || builds != 1 {
		t.Fatalf("setup: %v after %d builds", err, builds)
	}
	for _, want := range []string{"Broken: does not compile", "Nowhere: x: not installed", "Odd: is no folder"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	for _, want := range []string{"Here         found: /opt/here", "/opt/built", "Nowhere      missing"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}

func TestPackagesAreInstalledWithAsLittleAsItTakes(t *testing.T) {
	t.Parallel()
	const first, update = "install a b", "update"
	for name, row := range map[string]struct {
		fails []string // by how often each call fails
		calls string
		err   string
	}{
		"lists are here":      {nil, "install a b", ""},
		"a new machine":       {[]string{first}, "install a b|update|install a b", ""},
		"no network":          {[]string{first, update}, "install a b|update", "update"},
		"a is in no release":  {[]string{first, first, "install a"}, "install a b|update|install a b|install a|install b", "install a"},
		"the first was a try": {[]string{first, first}, "install a b|update|install a b|install a|install b", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fails := slices.Clone(row.fails)
			var calls []string
			err := installWith(func(args ...string) error {
				args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
				call := strings.Join(args, " ")
				calls = append(calls, call)
				if i := slices.Index(fails, call); i >= 0 {
					fails = slices.Delete(fails, i, i+1)
					return errors.New(call)
				}
				return nil
			}, []string{"a", "b"})
			if got := strings.Join(calls, "|"); got != row.calls {
				t.Errorf("called %s, want %s", got, row.calls)
			}
			if got := fmt.Sprint(err); err == nil && row.err != "" || err != nil && got != row.err {
				t.Errorf("error %v, want %q", err, row.err)
			}
		})
	}
}
