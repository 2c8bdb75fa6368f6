package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// hookTimeout bounds what a kind does when a connector is activated or
// deactivated, and the revocation of a grant.
const hookTimeout = 15 * time.Second

// Handover says who answers where the default stops to. One of both is needed
// when a default is deactivated or deleted.
type Handover struct {
	// Replacement becomes the default in the same transaction. It is of the same
	// tenant, organization and category, and active, or activated by the same rules.
	Replacement ID
	// AllowNoDefault accepts that no connector answers from then on.
	AllowNoDefault bool
}

// ActivateOptions say how to activate.
type ActivateOptions struct {
	Version int64 // 0: whatever is there
	// Force activates without a passed test. It needs Reason, at most MaxNote
	// characters, which is audited.
	Force  bool
	Reason string
}

// DeactivateOptions say how to deactivate.
type DeactivateOptions struct {
	Version int64 // 0: whatever is there
	Handover
	// BlockPinned refuses the connector to those who hold its id, too. nil keeps
	// what was said before.
	BlockPinned *bool
	// Revoke ends the OAuth2 grant at its issuer and forgets it. When the issuer
	// can't be asked, nothing is done at all.
	Revoke bool
	// Force switches off also where the kind's own Deactivate fails or refuses. It
	// needs Reason, as ActivateOptions.Force does.
	Force  bool
	Reason string
}

// DeleteOptions say how to delete.
type DeleteOptions struct {
	Version int64 // needed
	Handover
	Revoke bool // as DeactivateOptions.Revoke
	Force  bool // as DeactivateOptions.Force, with Reason
	Reason string
}

// ClearOptions say how to clear a default.
type ClearOptions struct {
	Version     int64 // 0: whatever is there
	Replacement ID    // becomes the default; zero: none does
}

// Activate makes a connector active: it may then be the default. It asks for a
// passed test of what is stored now, or Force. An active connector is no error,
// and nothing is written. The kind's own Activate comes first, for at most 15 s,
// and may run more than once, also where somebody else's write wins then.
// Errors: fault.Conflict without a passed test, and what the kind refuses;
// fault.InvalidArgument for an incomplete config, and for Force without Reason.
func (s *Service) Activate(ctx context.Context, sc Scope, id ID, o ActivateOptions) (Written, error) {
	if err := checkReason(o.Force, o.Reason); err != nil {
		return Written{}, err
	}
	return s.attempt(ctx, sc, id, o.Version, false, func(c Connector) (Written, error) {
		w := s.open(sc, c)
		v := w.verb(actionActivate)
		v.active, v.force, v.reason = true, o.Force, o.Reason
		return w.commit(ctx, v)
	})
}

// Deactivate makes a connector inactive: it answers only those who hold its id, as
// inactive. An inactive one is no error. The kind's own Deactivate comes first, for
// at most 15 s, and can refuse, unless Force says that it has no say.
// Errors: fault.Conflict for a default without Handover, and for what the kind or
// the Replacement's state refuses; fault.Unavailable when Revoke can't be done.
func (s *Service) Deactivate(ctx context.Context, sc Scope, id ID, o DeactivateOptions) (Written, error) {
	if err := checkReason(o.Force, o.Reason); err != nil {
		return Written{}, err
	}
	return s.attempt(ctx, sc, id, o.Version, false, func(c Connector) (Written, error) {
		w := s.open(sc, c)
		if o.BlockPinned != nil {
			w.next.BlockPinned = *o.BlockPinned
		}
		v := w.verb(actionDeactivate)
		v.active, v.def, v.handover, v.revoke = false, false, o.Handover, o.Revoke
		v.force, v.reason = o.Force, o.Reason
		return w.commit(ctx, v)
	})
}

// Delete deletes softly: the connector answers nobody, and Restore brings it back.
// Errors: as Deactivate's, fault.PreconditionRequired, fault.StaleVersion.
func (s *Service) Delete(ctx context.Context, sc Scope, id ID, o DeleteOptions) (Written, error) {
	if err := demand(o.Version); err != nil {
		return Written{}, err
	}
	if err := checkReason(o.Force, o.Reason); err != nil {
		return Written{}, err
	}
	return s.attempt(ctx, sc, id, o.Version, false, func(c Connector) (Written, error) {
		w := s.open(sc, c)
		w.next.DeletedAt = s.o.Now().UTC()
		v := w.verb(actionDelete)
		v.active, v.def, v.handover, v.revoke = false, false, o.Handover, o.Revoke
		v.force, v.reason = o.Force, o.Reason
		return w.commit(ctx, v)
	})
}

// Restore brings a deleted connector back, inactive. A living one is no error.
// Version 0 is whatever is there.
// Errors: fault.Conflict when another connector has its external id by now.
func (s *Service) Restore(ctx context.Context, sc Scope, id ID, version int64) (Written, error) {
	return s.attempt(ctx, sc, id, version, true, func(c Connector) (Written, error) {
		w := s.open(sc, c)
		v := w.verb(actionRestore)
		if c.DeletedAt.IsZero() {
			return s.unchanged(ctx, sc, c)
		}
		w.next.DeletedAt = time.Time{}
		v.active, v.def = false, false
		if w.next.State == StateConnected || w.next.State == StateError {
			w.next.State, w.restate = StateUntested, true
		}
		return w.commit(ctx, v)
	})
}

// SetDefault makes an active connector the one that answers for its organization
// and category, in place of the one that did: both versions move. One that is the
// default already is no error, and nothing is written. Version 0 is whatever is
// there.
// Errors: fault.Conflict for an inactive connector: a switch that nobody asked for
// is not made on the way.
func (s *Service) SetDefault(ctx context.Context, sc Scope, id ID, version int64) (Written, error) {
	return s.attempt(ctx, sc, id, version, false, func(c Connector) (Written, error) {
		w := s.open(sc, c)
		v := w.verb(actionDefault)
		v.def = true
		return w.commit(ctx, v)
	})
}

// ClearDefault leaves the connector active and no longer the default. The call
// itself says that no connector may answer, unless there is a Replacement. One
// that is not the default is no error.
func (s *Service) ClearDefault(ctx context.Context, sc Scope, id ID, o ClearOptions) (Written, error) {
	return s.attempt(ctx, sc, id, o.Version, false, func(c Connector) (Written, error) {
		w := s.open(sc, c)
		v := w.verb(actionNoDefault)
		v.def, v.handover = false, Handover{Replacement: o.Replacement, AllowNoDefault: true}
		return w.commit(ctx, v)
	})
}

// checkReason checks what stands in for a test, or for a kind's consent.
func checkReason(force bool, reason string) error {
	bad := func(code, message string) error {
		return fault.New(fault.InvalidArgument, "what is forced needs a reason").
			WithViolations(fault.Violation{Pointer: "/reason", Code: code, Message: message})
	}
	switch {
	case force && strings.TrimSpace(reason) == "":
		return bad("required", "say why")
	case utf8.RuneCountInString(reason) > MaxNote:
		return bad("length", fmt.Sprintf("has at most %d characters", MaxNote))
	case !printable(reason):
		return bad("format", "must be text on one line")
	}
	return nil
}

// verb is what a write does beside its edit.
type verb struct {
	action      string
	active, def bool // as they are to be
	handover    Handover
	force       bool
	reason      string
	test        bool // run the missing test instead of asking for one
	revoke      bool
}

// verb leaves active and default as they are.
func (w *work) verb(action string) verb {
	return verb{action: action, active: w.old.Active, def: w.old.Default}
}

// commit applies the rules of the lifecycle, runs the kind's hooks, writes the
// secrets, and makes it all one transaction.
func (w *work) commit(ctx context.Context, v verb) (Written, error) {
	fields := w.fieldsOf(v)
	refuse := func(err error) (Written, error) {
		return Written{}, w.s.refused(ctx, w.sc, v.action, w.next.ID.String(), fields, err)
	}
	if v.def && !v.active {
		return refuse(fault.New(fault.Conflict, "a default connector is active: activate it first"))
	}
	replacement, err := w.replacement(ctx, v)
	if err != nil {
		return refuse(err)
	}
	var check activation
	if v.active && !w.old.Active {
		if check, err = w.activate(ctx, v); err != nil {
			return refuse(err)
		}
	}
	if w.old.Active && !v.active {
		if err := w.deactivate(ctx, v.force); err != nil {
			return refuse(err)
		}
	}
	grant, err := w.grant(ctx, v)
	if err != nil {
		return refuse(err)
	}
	w.next.Active, w.next.Default = v.active, v.def
	if !w.fresh && len(w.fieldsOf(v)) == 0 && !grant && !w.rewrite && replacement == nil {
		return w.s.unchanged(ctx, w.sc, w.old)
	}
	written, err := w.store(ctx)
	if err != nil {
		return Written{}, err
	}
	revision, err := w.s.change(ctx, w.sc, written, func(ctx context.Context, tx TenantTx) error {
		if v.def && !w.old.Default {
			if _, err := tx.ClearDefault(ctx, w.next.Organization, w.next.Category); err != nil {
				return err
			}
		}
		if err := w.write(ctx, tx, check); err != nil {
			return err
		}
		if replacement != nil {
			if err := replacement.write(ctx, tx); err != nil {
				return err
			}
		}
		if grant || w.unbind { // a consent under way was meant for the client that was
			if err := tx.DeleteGrant(ctx, w.next.ID); err != nil {
				return err
			}
		}
		if w.revocation == ForgottenOnly { // whatever else came of it is on record
			if err := tx.Audit(ctx, AuditEntry{Action: actionRevoke, Target: w.next.ID.String(), Outcome: string(ForgottenOnly), Fields: []string{"grant"}}); err != nil {
				return err
			}
		}
		if err := w.claim.settle(ctx, tx, w.next.ID.String()); err != nil {
			return err
		}
		return w.audit(ctx, tx, v, fields, replacement)
	})
	if err != nil {
		return refuse(err)
	}
	if grant {
		w.s.forgetGrant(ctx, w.sc, &w.old, w.grantVersion)
	}
	out := w.s.written(ctx, w.sc, w.next, revision)
	out.Voided, out.GrantRemoved, out.Revocation, out.GrantsBeside = slices.Clone(w.voided), grant, w.revocation, w.beside
	return out, nil
}

// fieldsOf names what a write is about to change.
func (w *work) fieldsOf(v verb) []string {
	fields := slices.Clone(w.fields)
	add := func(name string, changed bool) {
		if changed {
			fields = append(fields, name)
		}
	}
	add("name", w.next.Name != w.old.Name)
	add("active", v.active != w.old.Active)
	add("is_default", v.def != w.old.Default)
	add("block_pinned", w.next.BlockPinned != w.old.BlockPinned)
	add("deleted", w.next.DeletedAt.IsZero() != w.old.DeletedAt.IsZero())
	return fields
}

// write stores next, as the version after the one that was found.
func (w *work) write(ctx context.Context, tx TenantTx, check activation) error {
	if w.fresh {
		return tx.Insert(ctx, w.next)
	}
	return tx.Update(ctx, w.old.ID, w.old.Version, func(c *Connector) error {
		// Tests move the state without a version: the one that counts is that of now.
		if check.tested && c.State != StateConnected {
			return untestedConflict(c.State)
		}
		next := w.next
		c.Name, c.SchemaVersion, c.Params, c.Secrets, c.Pin = next.Name, next.SchemaVersion, next.Params, next.Secrets, next.Pin
		c.Active, c.Default, c.BlockPinned, c.DeletedAt = next.Active, next.Default, next.BlockPinned, next.DeletedAt
		if w.restate {
			c.State = next.State
		}
		if check.report != nil {
			c.LastTest = check.report
		}
		return nil
	})
}

// audit leaves the verb's own entry beside those of the store's writes, where they
// don't say it.
func (w *work) audit(ctx context.Context, tx TenantTx, v verb, fields []string, r *replacement) error {
	entry := AuditEntry{Action: v.action, Target: w.next.ID.String(), Outcome: outcomeOK, Fields: fields}
	if v.force && v.active != w.old.Active {
		entry.Note = v.reason
		switch v.action {
		case actionCreate, actionUpdate:
			entry.Action = actionActivate
		case actionDelete:
			entry.Action = actionDeactivate
		}
	}
	if r != nil && r.check != nil {
		activated := AuditEntry{Action: actionActivate, Target: r.work.next.ID.String(), Outcome: outcomeOK, Fields: []string{"active"}}
		if err := tx.Audit(ctx, activated); err != nil {
			return err
		}
	}
	switch entry.Action {
	case actionCreate, actionUpdate, actionDelete, actionRestore:
		return nil
	}
	return tx.Audit(ctx, entry)
}

// activation is what allows a connector to become active.
type activation struct {
	tested bool            // a passed test does, and must still be the last word
	report json.RawMessage // of the test that was run for it
}

func untestedConflict(state State) error {
	switch state {
	case StateNeedsReauthorization:
		return fault.New(fault.Conflict, "the connector's account has to be connected first")
	case StateError:
		return fault.New(fault.Conflict, "the connector's last test failed: correct it and test it again, or force with a reason")
	case StateDraft:
		return fault.New(fault.Conflict, "the connector is a draft: complete it and test it first")
	default:
		return fault.New(fault.Conflict, "the connector has not been tested as it is now: test it first, or force with a reason")
	}
}

// activate applies the rule of activation to next, and runs the kind's hook.
func (w *work) activate(ctx context.Context, v verb) (activation, error) {
	if err := checkReason(v.force, v.reason); err != nil {
		return activation{}, err
	}
	cfg, err := w.config(ctx)
	if err != nil {
		return activation{}, err
	}
	var check activation
	switch {
	case v.force:
	case w.next.State == StateConnected:
		check.tested = true
	case v.test && w.next.State != StateNeedsReauthorization:
		if check.report, err = w.prove(ctx, cfg); err != nil {
			return activation{}, err
		}
		w.next.State, w.next.LastTest, w.restate = StateConnected, check.report, true
	default:
		return activation{}, untestedConflict(w.next.State)
	}
	return check, w.s.hook(ctx, w.sc, &w.next, "activate", func(ctx context.Context) error { return w.provider.Activate(ctx, cfg) })
}

// prove runs the test that allows what is about to be stored to be active at once.
func (w *work) prove(ctx context.Context, cfg providers.Config) (json.RawMessage, error) {
	var ref *GrantRef
	if !w.fresh && !w.unbind {
		r, err := w.s.grantRef(ctx, w.sc, &w.old)
		if err != nil {
			return nil, err
		}
		ref = &r
	}
	w.s.tokens(w.provider, &cfg, ref, !w.edited)
	w.proving(&cfg, ref)
	result, err := w.s.run(ctx, w.sc, w.next.ID, w.provider, cfg, TestOptions{Level: providers.LevelReach})
	if err != nil {
		return nil, err
	}
	if !result.OK {
		return nil, fault.New(fault.Conflict, "the connector can't be active, because its test fails: "+result.Message)
	}
	result.Version = w.old.Version + 1
	return result.encode()
}

// deactivate runs the kind's hook. A config that its kind can't read any more has
// nothing that a hook could work with, and must not stay active for that. With force
// a hook that fails is left behind: one that always fails must not keep a connector
// in use for good.
func (w *work) deactivate(ctx context.Context, force bool) error {
	if w.provider == nil {
		return nil
	}
	cfg, err := w.s.configOf(ctx, w.sc, w.provider, &w.old, false)
	switch code := fault.CodeOf(err); {
	case code == fault.InvalidArgument, code == fault.NeedsReauthorization:
		return nil
	case code == fault.Unavailable, code == fault.DeadlineExceeded:
		// Switching off is what one does in an emergency: it waits for no Vault. The
		// hook's work is left undone, and that is said.
		w.s.o.Log.Warn("a connector is switched off without its kind's hook, because its secrets can't be read",
			"tenant", w.sc.Tenant.String(), "connector", w.old.ID.String(), "kind", string(w.old.Kind), "error", err)
		return nil
	case err != nil:
		return err
	}
	err = w.s.hook(ctx, w.sc, &w.old, "deactivate", func(ctx context.Context) error { return w.provider.Deactivate(ctx, cfg) })
	if err != nil && force && ctx.Err() == nil {
		w.s.o.Log.Warn("a connector is switched off by force, though its kind's hook failed",
			"tenant", w.sc.Tenant.String(), "connector", w.old.ID.String(), "kind", string(w.old.Kind), "code", string(fault.CodeOf(err)))
		return nil
	}
	return err
}

// hook runs what a kind does at a turn of the lifecycle, within its time. What a
// kind says in a fault is shown; anything else it returns may hold anything.
func (s *Service) hook(ctx context.Context, sc Scope, c *Connector, action string, run func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if recover() != nil {
				s.panicked(sc, c.ID, c.Kind, action)
				done <- fault.New(fault.Internal, "the kind failed")
			}
		}()
		done <- run(ctx)
	}()
	select {
	case err := <-done:
		if err == nil {
			return nil
		}
		if fault.CodeOf(err) == fault.InvalidArgument {
			return kindError(err, fault.InvalidArgument, "") // somebody's input, told to them
		}
		s.o.Log.Warn("a kind refused a turn of the lifecycle", "tenant", sc.Tenant.String(),
			"connector", c.ID.String(), "kind", string(c.Kind), "action", action, "code", string(fault.CodeOf(err)))
		return kindError(err, fault.Conflict, "the kind refused to "+action+" the connector")
	case <-ctx.Done():
		return fault.Newf(fault.DeadlineExceeded, "the kind did not %s the connector in time", action).WithCause(ctx.Err())
	}
}

// kindError is what is kept of a kind's error: of a fault what it says to people,
// of anything else its type. A cause may repeat what a server was sent.
func kindError(err error, code fault.Code, message string) error {
	if said := fault.Message(err); said != "" {
		return fault.New(fault.CodeOf(err), said).WithViolations(fault.Violations(err)...).WithRetryAfter(fault.RetryAfter(err))
	}
	return fault.New(code, message).WithCause(fmt.Errorf("%T", err))
}

// panicked logs where a kind panicked, never with what: the value may hold anything.
func (s *Service) panicked(sc Scope, id ID, kind providers.Kind, action string) {
	s.o.Log.Error("a kind panicked", "tenant", sc.Tenant.String(), "connector", id.String(),
		"kind", string(kind), "action", action, "stack", string(debug.Stack()))
}

// grant tells whether the connector's grant goes, having revoked it where that was
// asked for. A connector whose grant is gone waits for its account to be connected.
func (w *work) grant(ctx context.Context, v verb) (bool, error) {
	if !w.unbind && !v.revoke || w.fresh {
		return false, nil
	}
	row, err := w.s.o.Store.Grant(ctx, w.sc.Tenant, w.old.ID)
	if err != nil {
		return false, err
	}
	if v.revoke && w.provider != nil {
		cfg, err := w.s.configOf(ctx, w.sc, w.provider, &w.old, true)
		if err != nil && fault.CodeOf(err) != fault.InvalidArgument {
			return false, err
		}
		if err == nil {
			if w.revocation, w.beside, err = w.s.revoke(ctx, w.sc, &w.old, w.provider, cfg); err != nil {
				return false, err
			}
			w.consents = NeedsConsent(w.provider, cfg)
		}
	}
	if row.Status == GrantNone {
		return false, nil
	}
	w.grantVersion = row.Version
	if w.consents {
		w.next.State, w.restate = StateNeedsReauthorization, true
	}
	return true, nil
}

// replacement is the connector that takes a default over.
type replacement struct {
	work  *work
	check *activation // nil: it was active
}

// replacement finds who answers where the default stops to; nil: nobody, or it
// doesn't stop.
func (w *work) replacement(ctx context.Context, v verb) (*replacement, error) {
	if !w.old.Default || v.def {
		return nil, nil
	}
	id := v.handover.Replacement
	if id.IsZero() {
		if v.handover.AllowNoDefault {
			return nil, nil
		}
		return nil, fault.New(fault.Conflict, "this is the default: name a replacement, or allow that there is none")
	}
	bad := func(message string) error {
		return fault.New(fault.InvalidArgument, "the replacement can't take over").
			WithViolations(fault.Violation{Pointer: "/replacement", Code: "replacement", Message: message})
	}
	if id == w.old.ID {
		return nil, bad("is the connector itself")
	}
	c, err := w.s.find(ctx, w.sc, id, false)
	if err != nil {
		return nil, err
	}
	if c.Organization != w.old.Organization || c.Category != w.old.Category {
		return nil, bad("must be of the same organization and category")
	}
	r := &replacement{work: w.s.open(w.sc, c)}
	if !c.Active {
		turn := r.work.verb(actionActivate)
		turn.active = true
		check, err := r.work.activate(ctx, turn)
		if err != nil {
			if fault.CodeOf(err) == fault.Conflict {
				err = fault.New(fault.Conflict, "the replacement can't be activated: "+fault.Message(err))
			}
			return nil, err
		}
		r.check = &check
	}
	r.work.next.Active, r.work.next.Default = true, true
	return r, nil
}

func (r *replacement) write(ctx context.Context, tx TenantTx) error {
	check := activation{}
	if r.check != nil {
		check = *r.check
	}
	return r.work.write(ctx, tx, check)
}
