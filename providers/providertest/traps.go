package providertest

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/providers"
)

// updateTraps rewrites testdata/traps.tsv of the packages that run RunTraps.
var updateTraps = flag.Bool("update-traps", false, "rewrite testdata/traps.tsv")

// Trap is one way in which a connection goes wrong, or only seems to go right,
// with what the connection test has to say about it.
type Trap struct {
	Name string // a sentence's subject: "a wrong password"
	// Doc is where the other side's behaviour is documented: a URL or an RFC with
	// its section. "" where it is the network's or ours.
	Doc   string
	Level int // 0 is 1
	// Make starts what the trap needs, ended by t.Cleanup, and returns the bound
	// provider and what an admin would have entered.
	Make func(t *testing.T) (providers.Provider, providers.Input)
	// Tokens are the config's; nil for kinds without.
	Tokens providers.TokenSource
	// Recipient is that of level 3.
	Recipient string
	// Step is the step that finds it, with Status and Code; "" and StepOK: the test
	// passes without a warning. Where Status is StepFail it is the first that fails.
	Step   string
	Status providers.StepStatus
	Code   providers.TestCode
	Fix    map[string]any // the params of the fix that is offered; nil: none is
}

// RunTraps runs each trap as a test of its own and compares the table with
// testdata/traps.tsv, from which the documentation is generated (run the test
// with -update-traps after a change). For each it also holds that the test ends
// in time, that every step says something, and that no secret is in the report.
func RunTraps(t *testing.T, traps []Trap) {
	t.Helper()
	var table strings.Builder
	table.WriteString("trap\tlevel\tstep\tstatus\tcode\tfix\tdocument\n")
	seen := map[string]bool{}
	for _, trap := range traps {
		if trap.Status == "" {
			trap.Status = providers.StepOK
		}
		trap.Level = max(trap.Level, 1)
		if seen[trap.Name] {
			t.Fatalf("two traps are called %q", trap.Name)
		}
		seen[trap.Name] = true
		fix := ""
		if trap.Fix != nil {
			b, err := json.Marshal(trap.Fix)
			if err != nil {
				t.Fatal(err)
			}
			fix = string(b)
		}
		fmt.Fprintf(&table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\n", trap.Name, trap.Level, trap.Step, trap.Status, trap.Code, fix, trap.Doc)
	}
	file := filepath.Join("testdata", "traps.tsv")
	if *updateTraps {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != table.String() {
		t.Errorf("%s is not the table of this test (%v): run it with -update-traps and read the diff", file, err)
	}
	for _, trap := range traps {
		t.Run(trap.Name, func(t *testing.T) {
			t.Parallel()
			trap.run(t)
		})
	}
}

func (trap Trap) run(t *testing.T) {
	p, in := trap.Make(t)
	c, err := p.Schema().Decode(in, providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.Tokens = trap.Tokens
	begun := time.Now()
	r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: trap.Level, Recipient: trap.Recipient})
	if err != nil {
		t.Fatalf("the test could not run: %v", err)
	}
	if took := time.Since(begun); took > providers.TestTimeout+time.Second {
		t.Errorf("the test took %s", took)
	}
	CheckReport(t, c, r)
	if r.Level != max(trap.Level, 1) {
		t.Errorf("the report says level %d", r.Level)
	}
	if r.OK != (trap.Status != providers.StepFail) {
		t.Errorf("ok is %t: %s", r.OK, Render(r))
	}
	for _, s := range r.Steps {
		if trap.Status == providers.StepFail && s.Status == providers.StepFail && s.Name != trap.Step {
			t.Fatalf("%s failed first: %s", s.Name, Render(r))
		}
		if s.Name == trap.Step && s.Code == trap.Code && s.Status == trap.Status {
			var fix map[string]any
			if s.Fix != nil {
				fix = s.Fix.Params
			}
			if !reflect.DeepEqual(fix, trap.Fix) {
				t.Errorf("the fix is %v, not %v", fix, trap.Fix)
			}
			return
		}
		if trap.Step == "" && s.Status == providers.StepWarn {
			t.Errorf("a warning: %s", Render(r))
		}
	}
	if trap.Step != "" {
		t.Errorf("no step %s %s %s: %s", trap.Step, trap.Status, trap.Code, Render(r))
	}
}

// CheckReport holds what is true of every report: statuses and codes are known
// ones, a step that is not ok has a hint, and no secret of c is in it, plain or
// in base64.
func CheckReport(t *testing.T, c providers.Config, r providers.TestReport) {
	t.Helper()
	if len(r.Steps) == 0 || r.Message == "" {
		t.Errorf("an empty report: %+v", r)
	}
	for _, s := range r.Steps {
		switch s.Status {
		case providers.StepOK, providers.StepSkip:
		case providers.StepWarn, providers.StepFail:
			if s.Code == "" || s.Hint == "" {
				t.Errorf("step %s is %s without a code or a hint", s.Name, s.Status)
			}
			if s.Code.Info().Hint == "" {
				t.Errorf("step %s has the code %s, which is not in the list", s.Name, s.Code)
			}
		default:
			t.Errorf("step %s has the status %q", s.Name, s.Status)
		}
	}
	text := Render(r)
	for name, v := range c.Secrets {
		plain := v.Reveal()
		if len(plain) < 6 {
			continue
		}
		encoded := strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(plain)), "=")
		if strings.Contains(text, plain) || strings.Contains(text, encoded) {
			t.Errorf("the report holds the secret %s", name)
		}
	}
}

// Render is the report as JSON without HTML escapes, for messages and searches.
func Render(r providers.TestReport) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return err.Error()
	}
	return b.String()
}
