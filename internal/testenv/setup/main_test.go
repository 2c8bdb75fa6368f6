package main

import (
	"errors"
	"fmt"
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
