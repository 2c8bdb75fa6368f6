package providers

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/patchbay-dev/patchbay/internal/egress"
)

// The levels of a connection test.
const (
	LevelReach      = 1 // reach and authenticate; no side effect
	LevelPermission = 2 // the permission or resource really needed
	LevelWrite      = 3 // write or send; only when asked
)

// TestTimeout bounds a whole test, StepTimeout one step of it.
const (
	TestTimeout = 15 * time.Second
	StepTimeout = 8 * time.Second
)

// cleanupTimeout is kept back of TestTimeout for [Test.Cleanup]: a test that is
// cut off would lose its report, and with it what it left behind.
const cleanupTimeout = 2 * time.Second

// TestOptions says how deep a test may go.
type TestOptions struct {
	Level int // LevelReach (also for 0), LevelPermission or LevelWrite
	// Recipient gets the test mail of level 3, where the kind sends one; "" sends
	// it to the sender.
	Recipient string
}

// StepStatus is how a step ended.
type StepStatus string

// The statuses of a step.
const (
	StepOK   StepStatus = "ok"
	StepWarn StepStatus = "warn" // works, but look at it
	StepFail StepStatus = "fail"
	StepSkip StepStatus = "skip" // not tried, because an earlier one failed or it does not apply
)

// TestReport is the outcome of a connection test. It holds no secret.
type TestReport struct {
	OK      bool       `json:"ok"`
	Message string     `json:"message"`
	Level   int        `json:"level"`
	Steps   []TestStep `json:"steps"`
}

// TestStep is one step of a test.
type TestStep struct {
	Name   string     `json:"name"` // "resolve", "connect", "tls", ...
	Status StepStatus `json:"status"`
	Code   TestCode   `json:"code,omitempty"`
	MS     int64      `json:"ms"` // milliseconds that it took
	Hint   string     `json:"hint,omitempty"`
	Fix    *Fix       `json:"fix,omitempty"`
}

// Fix is a change of params that one click applies.
type Fix struct {
	Label  string         `json:"label"`
	Params map[string]any `json:"params"` // canonical values; nil clears
}

// Fault tells whose fault a failed report is: that of its first failed step.
func (r TestReport) Fault() Fault {
	for _, s := range r.Steps {
		if s.Status == StepFail {
			return s.Code.Fault()
		}
	}
	return FaultNone
}

// Code is the code of the first failed step, "" when none failed.
func (r TestReport) Code() TestCode {
	for _, s := range r.Steps {
		if s.Status == StepFail {
			return s.Code
		}
	}
	return ""
}

// Scrubbed returns the report without the secrets of c, whoever wrote it: a kind
// that makes its report without [NewTest] may repeat what a server repeated.
func (r TestReport) Scrubbed(c Config) TestReport {
	scrub := scrubber(c)
	r.Message = scrub.Replace(r.Message)
	r.Steps = append([]TestStep{}, r.Steps...)
	for i, s := range r.Steps {
		r.Steps[i].Name, r.Steps[i].Hint = scrub.Replace(s.Name), scrub.Replace(s.Hint)
		if s.Fix == nil {
			continue
		}
		fix := Fix{Label: scrub.Replace(s.Fix.Label), Params: make(map[string]any, len(s.Fix.Params))}
		for name, v := range s.Fix.Params {
			if text, ok := v.(string); ok {
				v = scrub.Replace(text)
			}
			fix.Params[name] = v
		}
		r.Steps[i].Fix = &fix
	}
	return r
}

// Outcome is what a step found.
type Outcome struct {
	Status StepStatus
	Code   TestCode
	Hint   string // "" takes the code's own
	Fix    *Fix
}

// Good is the outcome of a step without a finding.
func Good() Outcome { return Outcome{Status: StepOK} }

// Goodf is Good with a remark.
func Goodf(format string, args ...any) Outcome {
	return Outcome{Status: StepOK, Hint: fmt.Sprintf(format, args...)}
}

// Skipped is the outcome of a step that does not apply.
func Skipped(hint string) Outcome { return Outcome{Status: StepSkip, Hint: hint} }

// Failed is a finding that ends the test. hint "" takes the code's own.
func Failed(code TestCode, hint string) Outcome {
	return Outcome{Status: StepFail, Code: code, Hint: hint}
}

// Warned is a finding that does not end the test.
func Warned(code TestCode, hint string) Outcome {
	return Outcome{Status: StepWarn, Code: code, Hint: hint}
}

// WithFix returns the outcome with a fix.
func (o Outcome) WithFix(label string, params map[string]any) Outcome {
	o.Fix = &Fix{Label: label, Params: params}
	return o
}

// Test runs the steps of one connection test in order, within the time allowed,
// and writes the report. After a failed step the others are skipped. It is used
// by one goroutine.
//
// Everything that goes into the report is searched for the config's secrets, as
// they are and in base64: a server may repeat what it was sent.
type Test struct {
	ctx    context.Context
	cancel context.CancelFunc
	level  int
	steps  []TestStep
	failed bool
	denied bool
	begun  time.Time
	scrub  *strings.Replacer
}

// NewTest begins a test of c. Its Report must be called.
func NewTest(ctx context.Context, c Config, o TestOptions) *Test {
	t := &Test{level: min(max(o.Level, LevelReach), LevelWrite), begun: time.Now(), scrub: scrubber(c)}
	t.ctx, t.cancel = context.WithTimeout(ctx, TestTimeout-cleanupTimeout)
	return t
}

// Level is how deep the test goes, 1 to 3.
func (t *Test) Level() int { return t.level }

// Failed tells whether a step has failed already.
func (t *Test) Failed() bool { return t.failed }

// Step runs one step with [StepTimeout], and tells whether the test goes on.
// After a failed one it records that this one was skipped.
func (t *Test) Step(name string, run func(ctx context.Context) Outcome) bool {
	if t.failed {
		t.steps = append(t.steps, TestStep{Name: name, Status: StepSkip})
		return false
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.ctx, StepTimeout)
	o := run(ctx)
	cancel()
	t.add(name, o, time.Since(begun))
	return !t.failed
}

// Cleanup runs a step that must be tried although an earlier one failed: removing
// what the test wrote. It has time of its own.
func (t *Test) Cleanup(name string, run func(ctx context.Context) Outcome) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), cleanupTimeout)
	defer cancel()
	t.add(name, run(ctx), time.Since(begun))
}

// Note records a finding that took no step of its own.
func (t *Test) Note(name string, o Outcome) { t.add(name, o, 0) }

func (t *Test) add(name string, o Outcome, took time.Duration) {
	if o.Hint == "" && o.Code != "" {
		o.Hint = o.Code.Info().Hint
	}
	t.steps = append(t.steps, TestStep{
		Name: name, Status: o.Status, Code: o.Code, MS: took.Milliseconds(), Hint: t.scrub.Replace(o.Hint), Fix: o.Fix,
	})
	t.failed = t.failed || o.Status == StepFail
	t.denied = t.denied || o.Code == CodeEgressDenied
}

// Report ends the test. good is the message where nothing failed ("Connected").
// Where the operator's policy denied the host it waits, see [egress.WaitFloor]:
// how long a refusal takes must not tell what is behind it.
func (t *Test) Report(good string) TestReport {
	t.cancel()
	if t.denied {
		egress.WaitFloor(context.WithoutCancel(t.ctx), t.begun)
	}
	r := TestReport{OK: !t.failed, Message: good, Level: t.level, Steps: t.steps}
	if r.Steps == nil {
		r.Steps = []TestStep{}
	}
	if i := slices.IndexFunc(t.steps, func(s TestStep) bool { return s.Status == StepFail }); i >= 0 {
		r.Message = t.steps[i].Hint
	}
	return r
}

// quoteLimit is how much of a server's text a hint may repeat, in characters.
const quoteLimit = 200

// Quote makes a server's text fit for a hint: one line, printable, not long.
// Only for protocols whose text is meant for the sender's admin (SMTP replies);
// an HTTP body is never quoted.
func Quote(text string) string {
	var b strings.Builder
	n := 0
	space := false
	for _, r := range text {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			space = b.Len() > 0
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
		if n++; n == quoteLimit {
			b.WriteString("...")
			break
		}
	}
	return b.String()
}

// scrubber replaces the config's secrets, as they are and in the base64 forms in
// which protocols carry them.
func scrubber(c Config) *strings.Replacer {
	var hidden []string
	for _, name := range c.Secrets.Names() {
		v := c.Secrets[name].Reveal()
		if len(v) < 3 {
			continue // would blank out half of every sentence
		}
		hidden = append(hidden, v)
		for _, text := range []string{v, "\x00" + c.Text("username") + "\x00" + v} {
			hidden = append(hidden, strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(text)), "="))
		}
	}
	// The longest first: one may be the beginning of another, whose rest would stay.
	slices.SortFunc(hidden, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	pairs := make([]string, 0, 2*len(hidden))
	for _, text := range hidden {
		pairs = append(pairs, text, "[redacted]")
	}
	return strings.NewReplacer(pairs...)
}

// TokenOutcome is the outcome of a step that asks for the connector's token.
func TokenOutcome(err error) Outcome {
	if err == nil {
		return Good()
	}
	if e, ok := errors.AsType[*TokenError](err); ok {
		return Failed(e.Code, "")
	}
	return NetworkOutcome(err)
}
