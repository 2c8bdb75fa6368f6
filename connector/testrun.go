package connector

import (
	"context"
	"encoding/json"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// TestOptions say how deep a test goes.
type TestOptions struct {
	// Level is providers.LevelReach (also for 0) to providers.LevelWrite, which
	// writes or sends.
	Level int
	// Recipient gets the test mail of the last level, where the kind sends one.
	Recipient string
}

// TestResult is the outcome of a test that ran: the admin API's last_test.
type TestResult struct {
	providers.TestReport
	TestedAt time.Time `json:"tested_at"` // UTC, when it ended
	Version  int64     `json:"version"`   // of the connector that was tested; 0 of a draft

	Tenant    tenant.ID `json:"-"`
	Connector ID        `json:"-"` // zero of a draft
	// State is the connector's after the test; "" of a draft, and where the test was
	// not recorded.
	State State `json:"-"`
	// Stale: the connector was changed, deleted or tested again meanwhile, so this
	// says nothing about it as it is, and was not recorded.
	Stale bool `json:"-"`
	// Withheld names stored secrets that a draft's test did not use, because the
	// place that they would be sent to is another one.
	Withheld []string `json:"-"`
}

func (r *TestResult) encode() (json.RawMessage, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fault.New(fault.Internal, "a test's report can't be written").WithCause(err)
	}
	return b, nil
}

// ParseTest reads a Connector's LastTest; nil where it was never tested.
func ParseTest(report json.RawMessage) (*TestResult, error) {
	if len(report) == 0 {
		return nil, nil
	}
	var r TestResult
	if err := json.Unmarshal(report, &r); err != nil {
		return nil, fault.New(fault.Internal, "a stored test report is not readable").WithCause(err)
	}
	return &r, nil
}

// TestConnection tests a connector as it is stored and records the outcome. A test
// that ran and failed is a result, not an error. It takes providers.TestTimeout at
// most; when ctx ends before, it runs on and is recorded all the same.
//
// The outcome decides the state: passed is connected, a fault of the tenant's own
// is an error. A vendor's outage, the operator's policy and our own faults leave
// the state, because nothing that the tenant could change would help. A connector
// that needs to be authorized again stays so.
// Errors: fault.RateLimited, while the same connector is under test and above the
// tenant's limits.
func (s *Service) TestConnection(ctx context.Context, sc Scope, id ID, o TestOptions) (TestResult, error) {
	type outcome struct {
		result TestResult
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
		defer cancel()
		r, err := s.RunTest(ctx, sc, id, o)
		if err == nil {
			r, err = s.RecordResult(ctx, r, false)
		}
		if err == nil {
			s.noted(ctx, sc, AuditEntry{Action: actionTest, Target: id.String(), Fields: []string{"last_test"}})
		}
		done <- outcome{r, err}
	}()
	select {
	case out := <-done:
		return out.result, out.err
	case <-ctx.Done():
		return TestResult{}, fault.New(fault.DeadlineExceeded, "the test goes on; its result will be the connector's last_test").WithCause(ctx.Err())
	}
}

// detachedTimeout is for a whole test with the reads before and the write after it.
const detachedTimeout = providers.TestTimeout + 15*time.Second

// noted leaves an audit entry of something that is done.
func (s *Service) noted(ctx context.Context, sc Scope, e AuditEntry) {
	e.Outcome = outcomeOK
	if err := s.o.Store.RecordAudit(ctx, sc.Tenant, sc.Actor, sc.Request, e); err != nil {
		s.o.Log.Error("an action could not be audited", "tenant", sc.Tenant.String(), "action", e.Action, "error", err)
	}
}

// RunTest is TestConnection without the record, within ctx, for those who judge a
// result before it is recorded.
func (s *Service) RunTest(ctx context.Context, sc Scope, id ID, o TestOptions) (TestResult, error) {
	if err := o.check(); err != nil {
		return TestResult{}, err
	}
	if err := s.admit(ctx, sc); err != nil {
		return TestResult{}, err
	}
	c, err := s.find(ctx, sc, id, false)
	if err != nil {
		return TestResult{}, err
	}
	p, ok := s.o.Kinds.Lookup(string(c.Kind))
	if !ok {
		return TestResult{}, unknownKind(c.Kind)
	}
	ref, err := s.grantRef(ctx, sc, &c)
	if err != nil {
		return TestResult{}, err
	}
	cfg, err := s.configOf(ctx, sc, p, &c, false)
	var result TestResult
	switch fault.CodeOf(err) {
	case "":
		s.tokens(p, &cfg, &ref, true)
		s.proveClient(p, &cfg, ref)
		if result, err = s.run(ctx, sc, c.ID, p, cfg, o); err != nil {
			return TestResult{}, err
		}
	case fault.InvalidArgument:
		result = s.incomplete(err, o)
	default:
		return TestResult{}, err
	}
	result.Tenant, result.Connector, result.Version, result.State = sc.Tenant, c.ID, c.Version, c.State
	return result, nil
}

func (o *TestOptions) check() error {
	if o.Level == 0 {
		o.Level = providers.LevelReach
	}
	var vs []fault.Violation
	if o.Level < providers.LevelReach || o.Level > providers.LevelWrite {
		vs = append(vs, fault.Violation{Pointer: "/level", Code: "range", Message: "must be 1, 2 or 3"})
	}
	if o.Recipient != "" {
		// It goes into a mail's header: what net/mail reads has no line break.
		if a, err := mail.ParseAddress(o.Recipient); err != nil || a.Address != o.Recipient {
			vs = append(vs, fault.Violation{Pointer: "/recipient", Code: "format", Message: "must be a mail address"})
		}
	}
	if len(vs) > 0 {
		return fault.New(fault.InvalidArgument, "the test can't run as asked").WithViolations(vs...)
	}
	return nil
}

// incomplete is the report of a stored config that is not whole, which is a
// finding and no bad request.
func (s *Service) incomplete(err error, o TestOptions) TestResult {
	hint := providers.CodeConfigIncomplete.Info().Hint
	var lacking []string
	for _, v := range fault.Violations(err) {
		lacking = append(lacking, strings.TrimPrefix(v.Pointer, "/")+" "+v.Message)
	}
	if len(lacking) > 0 {
		hint = "The config is not complete: " + strings.Join(lacking, "; ") + "."
	}
	return TestResult{TestedAt: s.o.Now().UTC(), TestReport: providers.TestReport{
		Message: hint, Level: o.Level,
		Steps: []providers.TestStep{{Name: "config", Status: providers.StepFail, Code: providers.CodeConfigIncomplete, Hint: hint}},
	}}
}

// run runs a kind's test within the limits. id is the connector that nobody else
// tests meanwhile; zero: none. The slot stays taken until the kind has ended, also
// one that outlives its time.
func (s *Service) run(ctx context.Context, sc Scope, id ID, p providers.Provider, cfg providers.Config, o TestOptions) (TestResult, error) {
	release, err := s.limits.take(sc.Tenant, id)
	if err != nil {
		return TestResult{}, err
	}
	type outcome struct {
		report providers.TestReport
		err    error
	}
	ctx, cancel := context.WithTimeout(ctx, providers.TestTimeout+time.Second)
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		out := outcome{report: internalReport(o, providers.CodeInternal)}
		defer func() {
			if recover() != nil {
				s.panicked(sc, id, cfg.Kind, "test")
			}
			release()
			done <- out
		}()
		r, err := p.TestConnection(ctx, cfg, providers.TestOptions{Level: o.Level, Recipient: o.Recipient})
		out = outcome{r, err}
	}()
	var out outcome
	select {
	case out = <-done:
	case <-ctx.Done():
		out.report = internalReport(o, providers.CodeTimeout)
	}
	if out.err != nil {
		return TestResult{}, kindError(out.err, fault.Internal, "the test could not run")
	}
	return TestResult{TestReport: out.report.Scrubbed(cfg), TestedAt: s.o.Now().UTC()}, nil
}

// internalReport is for a kind that wrote none.
func internalReport(o TestOptions, code providers.TestCode) providers.TestReport {
	hint := code.Info().Hint
	return providers.TestReport{Message: hint, Level: o.Level,
		Steps: []providers.TestStep{{Name: "test", Status: providers.StepFail, Code: code, Hint: hint}}}
}

// RecordResult records what RunTest found. keep leaves the state as it is,
// whatever was found. The result of a connector that has changed since is marked
// as stale and not recorded.
func (s *Service) RecordResult(ctx context.Context, r TestResult, keep bool) (TestResult, error) {
	report, err := r.encode()
	if err != nil {
		return r, err
	}
	c, err := Find(ctx, s.o.Store.Tenant(r.Tenant), r.Connector)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		r.Stale, r.State = true, ""
		return r, nil
	case err != nil:
		return r, err
	}
	r.State = r.judge(c.State, keep)
	state := r.State
	if state == StateNeedsReauthorization {
		state = StateUntested // the store keeps the one that it has
	}
	err = s.o.Store.RecordTest(ctx, r.Tenant, r.Connector, r.Version, state, report)
	switch fault.CodeOf(err) {
	case fault.StaleVersion, fault.NotFound:
		r.Stale, r.State = true, ""
		return r, nil
	}
	return r, err
}

// judge is the state after a test.
func (r *TestResult) judge(present State, keep bool) State {
	switch {
	case keep, present == StateNeedsReauthorization:
		return present
	case r.OK:
		return StateConnected
	case r.Code() == providers.CodeConfigIncomplete && present == StateDraft:
		return present
	case r.Fault() == providers.FaultConfig, r.Fault() == providers.FaultNone:
		return StateError
	}
	return present
}

// TestDraft tests what is not saved; nothing is recorded. With the id of a stored
// connector, whose kind the draft then has, its secrets stand in for those that
// the draft omits, but only where nothing that binds them is another in the draft:
// else a test would send them to whatever host somebody types. A null secret is
// cleared; omitted params take their defaults.
// Errors: fault.InvalidArgument for a draft that is no complete config;
// fault.RateLimited.
func (s *Service) TestDraft(ctx context.Context, sc Scope, d Draft, id ID, o TestOptions) (TestResult, error) {
	if err := o.check(); err != nil {
		return TestResult{}, err
	}
	if err := s.admit(ctx, sc); err != nil {
		return TestResult{}, err
	}
	w, ref, err := s.draft(ctx, sc, d, id)
	if err != nil {
		return TestResult{}, err
	}
	if err := w.edit(ctx, input{params: d.Params, secrets: d.Secrets, replace: true}); err != nil {
		return TestResult{}, err
	}
	cfg, err := w.config(ctx)
	if err != nil {
		return TestResult{}, w.explainWithheld(err)
	}
	if w.unbind {
		ref = nil // the consent was given to another client
	}
	s.tokens(w.provider, &cfg, ref, false)
	if ref != nil && w.anotherSecret(cfg) {
		cfg.Tokens = saveFirst()
	}
	// The audit comes first: a test reaches out, and at its last level it writes.
	target := id.String()
	if id.IsZero() {
		target = string(w.next.Kind)
	}
	s.noted(ctx, sc, AuditEntry{Action: actionTestDraft, Target: target})
	r, err := s.run(ctx, sc, id, w.provider, cfg, o)
	if err != nil {
		return TestResult{}, err
	}
	r.Withheld = slices.Clone(w.voided)
	return r, nil
}

// draft prepares the work of a draft's test: on the stored connector as if it were
// inactive, so that bound secrets are withheld instead of demanded.
func (s *Service) draft(ctx context.Context, sc Scope, d Draft, id ID) (*work, *GrantRef, error) {
	if id.IsZero() {
		w, err := s.fresh(sc, d)
		return w, nil, err
	}
	c, err := s.find(ctx, sc, id, false)
	if err != nil {
		return nil, nil, err
	}
	if d.Kind != "" {
		if p, ok := s.o.Kinds.Lookup(d.Kind); !ok || p.Schema().Kind != c.Kind {
			return nil, nil, fault.New(fault.InvalidArgument, "the draft is of another kind than the connector").
				WithViolations(fault.Violation{Pointer: "/kind", Code: "immutable", Message: "is not the connector's"})
		}
	}
	ref, err := s.grantRef(ctx, sc, &c)
	if err != nil {
		return nil, nil, err
	}
	c.Active, c.Default = false, false
	return s.open(sc, c), &ref, nil
}

// explainWithheld says of a missing secret why the stored one doesn't stand in.
func (w *work) explainWithheld(err error) error {
	vs := fault.Violations(err)
	if len(vs) == 0 || len(w.voided) == 0 {
		return err
	}
	out := fault.New(fault.CodeOf(err), fault.Message(err))
	for _, v := range vs {
		if name, ok := strings.CutPrefix(v.Pointer, "/secrets/"); ok && slices.Contains(w.voided, name) {
			v.Code, v.Message = string(fault.SecretRequired), "was stored for another place; give it again"
		}
		out = out.WithViolations(v)
	}
	return out
}

// Retestable tells whether a connector is worth a test that nobody asked for: an
// active one, of a kind with a test without side effects, whose state a test may
// say something about.
func (s *Service) Retestable(c *Connector) bool {
	p, ok := s.o.Kinds.Lookup(string(c.Kind))
	return ok && c.Active && c.DeletedAt.IsZero() && c.State != StateNeedsReauthorization &&
		slices.ContainsFunc(p.Schema().Tests, func(l providers.TestLevel) bool { return l.Level == providers.LevelReach && !l.SideEffects })
}

// Target names whom a connector talks to, for telling an outage of a vendor from a
// tenant's own fault: the kind, with the hosts that its params name.
func (s *Service) Target(c *Connector) string {
	target := []string{string(c.Kind)}
	if p, ok := s.o.Kinds.Lookup(string(c.Kind)); ok {
		for _, name := range p.Schema().Egress.FromParams {
			if host, ok := c.Params[name].Value.(string); ok {
				target = append(target, strings.ToLower(host))
			}
		}
	}
	return strings.Join(target, " ")
}

// printable tells whether a text is one line that a page, a log and an audit can show.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) && strings.ToValidUTF8(text, "") == text
}
