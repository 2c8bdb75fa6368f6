package connector

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// work is one write under way: a connector as it was found and as it is to be.
// Nothing of it is stored before commit.
type work struct {
	s        *Service
	sc       Scope
	provider providers.Provider // nil: the kind is not part of this build
	fresh    bool               // there is no old one
	claim    *Claim             // of the request that is to be settled with it; nil: none
	old      Connector
	next     Connector

	// Of an edit.
	edited   bool
	params   map[string]any // what is given after it, canonical, without defaults
	was, is  providers.Config
	read     bool // bundle and values are what is pinned
	bundle   Bundle
	values   secret.Map // after the edit
	rewrite  bool       // the secrets are another map than the pinned one
	complete bool       // nothing is missing
	restate  bool       // the edit decides the state
	voided   []string
	consents bool // it needs a user's consent
	unbind   bool // the grant was given to another client
	fields   []string

	// Of a grant that goes.
	grantVersion int64
	revocation   Revocation
	beside       []ID
}

// open prepares a write of a stored connector.
func (s *Service) open(sc Scope, c Connector) *work {
	w := &work{s: s, sc: sc, old: c, next: c}
	w.provider, _ = s.o.Kinds.Lookup(string(c.Kind))
	w.next.Params, w.next.Secrets = maps.Clone(c.Params), maps.Clone(c.Secrets)
	if w.next.Params == nil {
		w.next.Params = map[string]Param{}
	}
	if w.next.Secrets == nil {
		w.next.Secrets = map[string]SecretInfo{}
	}
	return w
}

func unknownKind(k providers.Kind) error {
	return fault.Newf(fault.Unavailable, "the kind %q is not part of this build", string(k))
}

// bundleOf reads the secrets that a connector pins. Those that are gone for good
// hold nothing, and remember no import.
func (s *Service) bundleOf(ctx context.Context, sc Scope, c *Connector) (Bundle, error) {
	if c.Pin.IsZero() {
		return Bundle{}, nil
	}
	b, err := s.o.Secrets.Read(ctx, SecretRef{Tenant: sc.Tenant, Connector: c.ID, Pin: c.Pin})
	if fault.CodeOf(err) == fault.NotFound {
		return Bundle{}, nil
	}
	return b, err
}

// configOf assembles a stored connector's config, secrets included.
// Errors: fault.InvalidArgument for one that does not fit its kind.
func (s *Service) configOf(ctx context.Context, sc Scope, p providers.Provider, c *Connector, partial bool) (providers.Config, error) {
	b, err := s.bundleOf(ctx, sc, c)
	if err != nil {
		return providers.Config{}, err
	}
	return p.Schema().Decode(providers.Input{Params: valuesOf(c.Params), Secrets: b.Values},
		providers.DecodeOptions{Version: c.SchemaVersion, Partial: partial})
}

// valuesOf are the params that are set.
func valuesOf(params map[string]Param) map[string]any {
	out := make(map[string]any, len(params))
	for name, p := range params {
		if p.Value != nil {
			out[name] = p.Value
		}
	}
	return out
}

// upgrade brings next to the present schema, so that an edit speaks of the names
// of today.
func (w *work) upgrade(ctx context.Context) error {
	if w.fresh {
		return nil
	}
	rewrite, err := Upgrade(w.provider.Schema(), &w.next, func() (*Bundle, error) {
		err := w.load(ctx)
		return &w.bundle, err
	})
	if err != nil {
		return err
	}
	if rewrite {
		w.values, w.rewrite = w.bundle.Values.Clone(), true
	}
	return nil
}

// load reads the pinned secrets, once. The record follows the secret store where
// that has lost one.
func (w *work) load(ctx context.Context) error {
	if w.read {
		return nil
	}
	b, err := w.s.bundleOf(ctx, w.sc, &w.old)
	if err != nil {
		return err
	}
	w.read, w.bundle = true, Bundle{Values: b.Values.Clone(), Imported: maps.Clone(b.Imported)}
	if w.bundle.Values == nil {
		w.bundle.Values = secret.Map{}
	}
	w.values = w.bundle.Values.Clone()
	for name := range w.next.Secrets {
		if !w.values[name].IsSet() {
			delete(w.next.Secrets, name)
			w.rewrite, w.fields = true, append(w.fields, "secrets."+name)
		}
	}
	return nil
}

// input is what somebody submits: names not yet checked. A nil param and an unset
// secret clear.
type input struct {
	params  map[string]any
	secrets secret.Map
	replace bool // omitted params are cleared
}

// edit applies in to next. After an error next is of no use.
// Errors: fault.InvalidArgument with all problems; fault.SecretRequired where an
// active connector's stored secrets would be sent to another place.
func (w *work) edit(ctx context.Context, in input) error {
	if w.provider == nil {
		return unknownKind(w.next.Kind)
	}
	if err := w.upgrade(ctx); err != nil {
		return err
	}
	schema := w.provider.Schema()
	_, authorizes := w.provider.(providers.Authorizer)
	if len(in.secrets) > 0 || authorizes {
		if err := w.load(ctx); err != nil {
			return err
		}
	}
	w.edited = true
	w.remember(schema)
	merged, submitted := w.merge(schema, in)
	var vs []fault.Violation
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		if at := nulls(merged[name], "/params/"+name); at != "" {
			vs = append(vs, fault.Violation{Pointer: at, Code: "type", Message: "can't be null"})
		}
	}
	if err := invalid("a param has a problem", vs); err != nil {
		return err
	}
	given, err := w.decide(schema, in, merged)
	if err != nil {
		return err
	}
	if err := w.immutable(schema, submitted); err != nil {
		return err
	}
	w.putParams(given)
	if err := w.putSecrets(ctx, given, cleared(schema, in, given)); err != nil {
		return err
	}
	w.restateFrom(schema)
	return nil
}

// remember decodes what is stored, for comparison.
func (w *work) remember(schema *providers.Schema) {
	w.was = providers.Config{Kind: schema.Kind, Params: map[string]any{}}
	if !w.fresh {
		w.was = StoredConfig(schema, &w.next, w.bundle.Values)
	}
}

// StoredConfig decodes what is stored of c with those of its secrets that are at
// hand, for comparison. What does not fit its kind any more is taken as it is:
// everything that differs then counts as changed.
func StoredConfig(schema *providers.Schema, c *Connector, secrets secret.Map) providers.Config {
	stored := valuesOf(c.Params)
	cfg, err := schema.Decode(providers.Input{Params: stored, Secrets: secrets},
		providers.DecodeOptions{Configured: names(c.Secrets), Partial: true})
	if err != nil {
		return providers.Config{Kind: schema.Kind, Params: stored, Secrets: secrets}
	}
	return cfg
}

func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// merge lays in over the stored params, under the names that were submitted: the
// pointers of what is wrong are then those of the request. submitted leads from
// canonical names to those.
func (w *work) merge(schema *providers.Schema, in input) (merged map[string]any, submitted map[string]string) {
	merged, submitted = map[string]any{}, map[string]string{}
	for name := range in.params {
		submitted[schema.Canonical(name)] = name
	}
	if !in.replace {
		for name, v := range valuesOf(w.next.Params) {
			if _, given := submitted[name]; !given {
				merged[name] = v
			}
		}
	}
	for name, v := range in.params {
		_, stored := w.next.Params[name]
		if v == nil && stored && schema.Param(name) == nil {
			continue // clears what a former build's kind knew
		}
		if held, ok := w.next.Params[schema.Canonical(name)]; ok && !in.replace {
			v = patched(held.Value, v)
		} else if !in.replace {
			v = patched(nil, v)
		}
		merged[name] = v
	}
	return merged, submitted
}

// patched is a JSON merge patch (RFC 7396) of a stored value.
func patched(stored, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	s, _ := stored.(map[string]any)
	out := make(map[string]any, len(s)+len(p))
	maps.Copy(out, s)
	for name, v := range p {
		if v == nil {
			delete(out, name)
			continue
		}
		out[name] = patched(out[name], v)
	}
	return out
}

// nulls finds a null within a value, which no param can hold, and names its place.
func nulls(v any, pointer string) string {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			at := pointer + "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
			if v[name] == nil {
				return at
			}
			if found := nulls(v[name], at); found != "" {
				return found
			}
		}
	case []any:
		for i, item := range v {
			at := pointer + "/" + strconv.Itoa(i)
			if item == nil {
				return at
			}
			if found := nulls(item, at); found != "" {
				return found
			}
		}
	}
	return ""
}

// decide decodes the merged config, finds out which stored secrets it voids, and
// returns what was given in canonical form.
func (w *work) decide(schema *providers.Schema, in input, merged map[string]any) (providers.Input, error) {
	secrets := in.secrets.Clone()
	given, err := schema.Given(providers.Input{Params: merged, Secrets: secrets})
	if err != nil {
		// Decode says the same, and what is missing or does not go together too.
		if _, all := schema.Decode(providers.Input{Params: merged, Secrets: secrets},
			providers.DecodeOptions{Configured: names(w.next.Secrets), Partial: !w.old.Active}); all != nil {
			return given, all
		}
		return given, err
	}
	gone := cleared(schema, in, given)
	for {
		var configured []string
		for _, name := range names(w.next.Secrets) {
			if !slices.Contains(gone, name) && !slices.Contains(w.voided, name) {
				configured = append(configured, name)
			}
		}
		whole := providers.Input{Params: merged, Secrets: secrets}
		w.is, err = schema.Decode(whole, providers.DecodeOptions{Configured: configured, Partial: !w.old.Active})
		if err != nil {
			return given, err
		}
		_, err = schema.Decode(whole, providers.DecodeOptions{Configured: configured})
		w.complete = err == nil
		bound := w.bound(schema, configured, given.Secrets)
		if len(bound) == 0 {
			return given, nil
		}
		if w.old.Active {
			return given, secretRequired(bound)
		}
		// Without them more may become invisible, which is a change as well.
		w.voided = append(w.voided, bound...)
	}
}

func secretRequired(bound []string) error {
	err := fault.New(fault.SecretRequired, "a changed param says where stored secrets are sent: give those secrets too")
	for _, name := range bound {
		err = err.WithViolations(fault.Violation{Pointer: "/secrets/" + name, Code: string(fault.SecretRequired),
			Message: "was stored for another place; give it again"})
	}
	return err
}

// bound are the stored secrets that the change of a param binds and that don't
// come along: they were meant for the old place.
func (w *work) bound(schema *providers.Schema, configured []string, given secret.Map) (bound []string) {
	for _, param := range w.changed(schema) {
		for _, name := range schema.BoundSecrets(param) {
			if slices.Contains(configured, name) && !given[name].IsSet() && !slices.Contains(bound, name) {
				bound = append(bound, name)
			}
		}
	}
	slices.Sort(bound)
	return bound
}

// changed names the params whose value in effect is another one, defaults filled
// in: writing a default out is no change, clearing a value is one.
func (w *work) changed(schema *providers.Schema) []string {
	return changedParams(schema, w.was, w.is)
}

func changedParams(schema *providers.Schema, was, is providers.Config) (changed []string) {
	for _, p := range schema.Params {
		before, had := was.Params[p.Name]
		after, has := is.Params[p.Name]
		if had != has || !SameValue(before, after) {
			changed = append(changed, p.Name)
		}
	}
	return changed
}

// cleared are the secrets that in clears, by canonical name.
func cleared(schema *providers.Schema, in input, given providers.Input) (list []string) {
	for name, v := range in.secrets {
		name = schema.Canonical(name)
		if !v.IsSet() && !given.Secrets[name].IsSet() {
			list = append(list, name)
		}
	}
	return list
}

// immutable refuses another value for a param that is set once.
func (w *work) immutable(schema *providers.Schema, submitted map[string]string) error {
	var vs []fault.Violation
	for _, name := range w.changed(schema) {
		if _, set := w.was.Params[name]; !set || !schema.Param(name).Immutable {
			continue
		}
		at, given := submitted[name]
		if !given {
			at = name
		}
		vs = append(vs, fault.Violation{Pointer: "/params/" + at, Code: "immutable", Message: "is set once and never changes"})
	}
	if len(vs) == 0 {
		return nil
	}
	return fault.New(fault.InvalidArgument, "a param that is set once can't be changed").WithViolations(vs...)
}

// putParams stores what was given, also what the config's own values make
// invisible: it is in effect again when they change back.
func (w *work) putParams(given providers.Input) {
	now := w.s.o.Now().UTC()
	w.params = given.Params
	for name, v := range given.Params {
		old, exists := w.next.Params[name]
		if exists && old.Value != nil && SameValue(old.Value, v) {
			continue
		}
		w.next.Params[name] = Param{Value: v, Writer: WriterAPI, Imported: old.Imported, UpdatedAt: now}
		w.fields = append(w.fields, "params."+name)
	}
	for name, old := range w.next.Params {
		if _, given := given.Params[name]; given || old.Value == nil {
			continue
		}
		w.fields = append(w.fields, "params."+name)
		if old.Imported == nil {
			delete(w.next.Params, name)
			continue
		}
		w.next.Params[name] = Param{Writer: WriterAPI, Imported: old.Imported, UpdatedAt: now}
	}
}

// putSecrets merges the given secrets into the pinned ones. What the last import
// brought stays remembered, also of a secret that goes: the same file must not
// bring it back to a connector that points elsewhere by now.
func (w *work) putSecrets(ctx context.Context, given providers.Input, gone []string) error {
	if len(given.Secrets) == 0 && len(gone) == 0 && len(w.voided) == 0 {
		return nil
	}
	if err := w.load(ctx); err != nil {
		return err
	}
	now := w.s.o.Now().UTC()
	for name, v := range given.Secrets {
		if w.values[name].IsSet() && w.values[name].Equal(v) {
			continue
		}
		w.values[name] = v
		w.next.Secrets[name] = SecretInfo{Version: w.next.Secrets[name].Version + 1, Writer: WriterAPI, UpdatedAt: now}
		w.rewrite, w.fields = true, append(w.fields, "secrets."+name)
	}
	for _, name := range append(slices.Clone(gone), w.voided...) {
		if _, set := w.next.Secrets[name]; !set {
			continue
		}
		delete(w.values, name)
		delete(w.next.Secrets, name)
		w.rewrite, w.fields = true, append(w.fields, "secrets."+name)
	}
	return nil
}

// restateFrom decides what is known of the connection after the edit.
func (w *work) restateFrom(schema *providers.Schema) {
	slices.Sort(w.fields)
	w.fields = slices.Compact(w.fields)
	affects := w.fresh || slices.ContainsFunc(w.changed(schema), func(name string) bool { return schema.Param(name).AffectsConnection })
	for _, p := range schema.Secrets {
		affects = affects || p.AffectsConnection && slices.Contains(w.fields, "secrets."+p.Name)
	}
	if w.read {
		was, is := w.was, w.is
		was.Secrets, is.Secrets = w.bundle.Values, w.values
		w.consents = NeedsConsent(w.provider, is)
		w.unbind = !w.fresh && Unbinds(w.provider, was, is)
		affects = affects || w.unbind
	}
	switch {
	case w.old.State == StateNeedsReauthorization && w.consents && !w.unbind:
		w.next.State = StateNeedsReauthorization
	case !w.complete:
		w.next.State = StateDraft
	case affects, w.old.State == StateDraft, w.old.State == StateNeedsReauthorization:
		w.next.State = StateUntested
	}
	w.restate = w.next.State != w.old.State || affects
}

// config is the complete config of next, for hooks and tests.
func (w *work) config(ctx context.Context) (providers.Config, error) {
	if w.provider == nil {
		return providers.Config{}, unknownKind(w.next.Kind)
	}
	if !w.edited {
		return w.s.configOf(ctx, w.sc, w.provider, &w.old, false)
	}
	if err := w.load(ctx); err != nil {
		return providers.Config{}, err
	}
	return w.provider.Schema().Decode(providers.Input{Params: w.params, Secrets: w.values}, providers.DecodeOptions{})
}

// store writes the secrets to a path of their own, where they changed, and pins
// it. It returns when, zero where nothing was written.
func (w *work) store(ctx context.Context) (time.Time, error) {
	if !w.rewrite {
		return time.Time{}, nil
	}
	if len(w.values) == 0 && len(w.bundle.Imported) == 0 {
		w.next.Pin = Pin{}
		return time.Time{}, nil
	}
	at := w.s.o.Now()
	ref := SecretRef{Tenant: w.sc.Tenant, Connector: w.next.ID, Pin: w.s.o.NewPin()}
	if err := w.s.o.Secrets.Write(ctx, ref, Bundle{Values: w.values, Imported: w.bundle.Imported}); err != nil {
		if !fault.Outage(err) {
			// Its refusal would read as one of the request.
			err = fault.New(fault.Internal, "the secret store refused a new path").WithCause(err)
		}
		return time.Time{}, err
	}
	w.next.Pin = ref.Pin
	return at, nil
}
