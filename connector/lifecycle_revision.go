package connector

import (
	"context"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// RestoreRevision rolls a connector back to how revision n (a Connector's version)
// had it: name, params and secrets, as a new version. Active, default and what the
// last import brought stay as they are, so that importing an unchanged file does
// not undo the roll-back. Params and secrets come back together, as they were
// meant for each other.
// Errors: fault.PreconditionRequired without a version, fault.StaleVersion;
// fault.NotFound for an unknown n; fault.Conflict when the secrets of then are
// destroyed; fault.InvalidArgument when what was then does not fit the kind of now.
func (s *Service) RestoreRevision(ctx context.Context, sc Scope, id ID, n, version int64) (Written, error) {
	if err := demand(version); err != nil {
		return Written{}, err
	}
	return s.attempt(ctx, sc, id, version, false, func(c Connector) (Written, error) {
		history, err := s.o.Store.Tenant(sc.Tenant).History(ctx, id, n+1, 1)
		if err != nil {
			return Written{}, err
		}
		for i := range history {
			if history[i].Version == n {
				w := s.open(sc, c)
				if err := w.rollBack(ctx, &history[i].Connector); err != nil {
					return Written{}, s.refused(ctx, sc, actionRollBack, id.String(), nil, err)
				}
				return w.commit(ctx, w.verb(actionRollBack))
			}
		}
		return Written{}, fault.New(fault.NotFound, "there is no such revision of the connector")
	})
}

// rollBack makes next what then was.
func (w *work) rollBack(ctx context.Context, then *Connector) error {
	if w.provider == nil {
		return unknownKind(w.next.Kind)
	}
	schema := w.provider.Schema()
	if err := w.upgrade(ctx); err != nil {
		return err
	}
	if err := w.load(ctx); err != nil {
		return err
	}
	b, err := w.s.bundleOf(ctx, w.sc, then)
	if err != nil {
		return err
	}
	for name := range then.Secrets {
		if !b.Values[name].IsSet() {
			return fault.New(fault.Conflict, "the secrets of that revision are not kept any more")
		}
	}
	past, err := schema.Upgrade(then.SchemaVersion, providers.Input{Params: valuesOf(then.Params), Secrets: b.Values})
	if err != nil {
		return err
	}
	w.edited = true
	w.remember(schema)
	if w.is, err = schema.Decode(past, providers.DecodeOptions{Partial: !w.old.Active}); err != nil {
		return err
	}
	_, err = schema.Decode(past, providers.DecodeOptions{})
	w.complete = err == nil
	if err := w.immutable(schema, nil); err != nil {
		return err
	}
	given, err := schema.Given(past)
	if err != nil {
		return err
	}
	w.next.Name = then.Name
	w.putParams(given)
	var cleared []string
	for _, name := range names(w.values) {
		if !given.Secrets[name].IsSet() {
			cleared = append(cleared, name)
		}
	}
	// A secret's version only grows, also where an older content comes back.
	for name := range given.Secrets {
		if info, known := then.Secrets[name]; known && info.Version > w.next.Secrets[name].Version && !w.values[name].IsSet() {
			w.next.Secrets[name] = info
		}
	}
	if err := w.putSecrets(ctx, given, cleared); err != nil {
		return err
	}
	w.restateFrom(schema)
	return nil
}
