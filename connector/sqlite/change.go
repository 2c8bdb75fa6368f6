package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Change implements connector.Changer. A Change within fn would wait for the
// writer that fn itself holds, until its context ends.
func (s *Store) Change(ctx context.Context, c connector.Change, fn func(context.Context, connector.Tx) error) (map[tenant.ID]int64, error) {
	locks, err := change.Plan(c)
	if err != nil {
		return nil, err
	}
	revisions, err := s.run(ctx, c, locks, fn)
	if errors.Is(err, connector.ErrNoChange) {
		present, err := s.Revisions(ctx, c.Tenants)
		return present.Revision, err
	}
	if err != nil {
		return nil, err
	}
	select {
	case s.committed <- struct{}{}:
	default: // a signal waits already, and says as much
	}
	return revisions, nil
}

func (s *Store) run(ctx context.Context, c connector.Change, locks []change.Lock, fn func(context.Context, connector.Tx) error) (map[tenant.ID]int64, error) {
	begun, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, s.classify(ctx, err)
	}
	defer begun.Rollback() //nolint:errcheck // after a commit it does nothing; before, the connection is dropped
	t := &tx{store: s, sql: begun, change: c, now: s.now(), revisions: make(map[tenant.ID]int64, len(locks)), noted: map[tenant.ID]bool{}}
	for _, l := range locks {
		if err := t.lock(ctx, l); err != nil {
			return nil, err
		}
	}
	if err := fn(ctx, t); err != nil {
		// A failed statement decides over "no change": fn cannot know.
		if errors.Is(err, connector.ErrNoChange) && t.failed != nil {
			return nil, t.failed
		}
		return nil, err
	}
	if t.failed != nil {
		return nil, t.failed
	}
	for _, l := range locks {
		if !t.noted[l.ID] {
			// The revision moved, so readers must hear of it; it names nothing.
			if err := t.note(ctx, connector.Message{Tenant: l.ID}); err != nil {
				return nil, err
			}
		}
	}
	if !c.SecretsWritten.IsZero() && s.now().Sub(c.SecretsWritten) > connector.MaxSecretAge {
		return nil, fault.New(fault.DeadlineExceeded, "the change took too long after its secrets were written, try again")
	}
	if err := begun.Commit(); err != nil {
		return nil, s.classify(ctx, err)
	}
	return t.revisions, nil
}

// tx implements connector.Tx.
type tx struct {
	store     *Store
	sql       *sql.Tx
	change    connector.Change
	now       time.Time
	revisions map[tenant.ID]int64
	noted     map[tenant.ID]bool // tenants with an outbox row
	// failed is the first failed statement. SQLite would commit what came
	// before it; a write of several statements must not be kept by half.
	failed error
}

// Tenant implements connector.Tx.
func (t *tx) Tenant(id tenant.ID) connector.TenantTx { return &tenantTx{tx: t, id: id} }

// query runs one statement; scan may be nil. It returns the number of rows.
func (t *tx) query(ctx context.Context, scan func(*sql.Rows) error, statement string, args ...any) (n int, err error) {
	if t.failed != nil {
		return 0, t.failed
	}
	err = queryOn(ctx, t.sql, func(rows *sql.Rows) error {
		n++
		if scan == nil {
			return nil
		}
		return scan(rows)
	}, statement, args...)
	return n, t.fail(t.store.classify(ctx, err))
}

func (t *tx) exec(ctx context.Context, statement string, args ...any) error {
	if t.failed != nil {
		return t.failed
	}
	_, err := t.sql.ExecContext(ctx, statement, args...)
	return t.fail(t.store.classify(ctx, err))
}

// fail makes an error final for the transaction.
func (t *tx) fail(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}

// lock moves a tenant's revision, or creates the tenant.
func (t *tx) lock(ctx context.Context, l change.Lock) error {
	var revision int64
	scan := func(rows *sql.Rows) error { return rows.Scan(&revision) }
	if l.Create == nil {
		n, err := t.query(ctx, scan, `UPDATE tenants SET revision = max(revision + 1, ?2) WHERE id = ?1 RETURNING revision`,
			l.ID.String(), t.now.UnixMilli())
		if err == nil && n == 0 {
			err = noTenant()
		}
		t.revisions[l.ID] = revision
		return err
	}
	c := l.Create
	n, err := t.query(ctx, scan, `INSERT INTO tenants (id, external_id, name, status, no_update, revision, created_at, updated_at)
		VALUES (?1, ?2, ?3, ?4, ?5, max(1, ?6), ?7, ?7) ON CONFLICT (id) DO NOTHING RETURNING revision`,
		c.ID.String(), null(c.ExternalID), c.Name, string(c.Status), c.NoUpdate, t.now.UnixMilli(), micros(t.now))
	if err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.AlreadyExists, "the tenant already exists")
	}
	t.revisions[l.ID] = revision
	if err := t.audit(ctx, l.ID, done("tenant.create", l.ID.String(), []string{"name", "status"})); err != nil {
		return err
	}
	return t.note(ctx, connector.Message{Tenant: l.ID, All: true, Status: true})
}

// note leaves an outbox row.
func (t *tx) note(ctx context.Context, m connector.Message) error {
	t.noted[m.Tenant] = true
	return t.exec(ctx, `INSERT INTO outbox
		(tenant_id, revision, all_organizations, organization_id, category, connector_id, status, at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
		m.Tenant.String(), t.revisions[m.Tenant], m.All, null(m.Organization.String()), null(string(m.Category)),
		null(m.Connector.String()), m.Status, micros(t.now))
}

// done is the audit entry of a write: names of what changed, never a value.
func done(action, target string, fields []string) connector.AuditEntry {
	return connector.AuditEntry{Action: action, Target: target, Outcome: "ok", Fields: fields}
}

// audit leaves an audit row.
func (t *tx) audit(ctx context.Context, id tenant.ID, e connector.AuditEntry) error {
	args, err := auditRow(id, t.now, t.change.Actor, t.change.Request, e)
	if err != nil {
		return t.fail(err)
	}
	return t.exec(ctx, auditSQL, args...)
}

// auditSQL writes an entry of a tenant that exists, and returns a row if it did.
const auditSQL = `INSERT INTO audit (tenant_id, at, actor, action, target, outcome, request_id, fields, note)
	SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM tenants t WHERE t.id = ?1 RETURNING 1`

func auditRow(id tenant.ID, at time.Time, actor, request string, e connector.AuditEntry) ([]any, error) {
	if e.Fields == nil {
		e.Fields = []string{}
	}
	names, err := json.Marshal(e.Fields)
	if err != nil {
		return nil, unreadable(err)
	}
	return []any{id.String(), micros(at), actor, e.Action, e.Target, e.Outcome, request, string(names), e.Note}, nil
}

// RecordAudit implements connector.Changer.
func (s *Store) RecordAudit(ctx context.Context, t tenant.ID, actor, request string, e connector.AuditEntry) error {
	if err := change.CheckActor(actor, request); err != nil {
		return err
	}
	if err := change.CheckAudit(&e); err != nil {
		return err
	}
	args, err := auditRow(t, s.now(), actor, request, e)
	if err != nil {
		return err
	}
	written := false
	err = queryOn(ctx, s.write, func(*sql.Rows) error { written = true; return nil }, auditSQL, args...)
	if err == nil && !written {
		return noTenant()
	}
	return s.classify(ctx, err)
}

// RecordTest implements connector.Changer.
func (s *Store) RecordTest(ctx context.Context, t tenant.ID, id connector.ID, version int64, state connector.State, report []byte) error {
	if err := change.CheckTest(state, report); err != nil {
		return err
	}
	begun, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return s.classify(ctx, err)
	}
	defer begun.Rollback() //nolint:errcheck // after a commit it does nothing; before, the connection is dropped
	w := &tx{store: s, sql: begun}
	var stored int64
	var last sql.NullString
	n, err := w.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&stored, &last) },
		`SELECT c.version, c.last_test FROM connectors c WHERE c.tenant_id = ?1 AND c.id = ?2 AND c.deleted_at IS NULL`,
		t.String(), id.String())
	switch {
	case err != nil:
		return err
	case n == 0:
		return noConnector()
	case stored != version:
		return stale()
	}
	if err := change.CheckTestOrder([]byte(last.String), report); err != nil {
		return err
	}
	err = w.exec(ctx, `UPDATE connectors SET last_test = ?4,
		state = CASE state WHEN 'needs_reauthorization' THEN state ELSE ?3 END WHERE tenant_id = ?1 AND id = ?2`,
		t.String(), id.String(), string(state), null(string(report)))
	if err != nil {
		return err
	}
	return s.classify(ctx, begun.Commit())
}

func noConnector() error { return fault.New(fault.NotFound, "there is no such connector") }

func stale() error { return fault.New(fault.StaleVersion, "the connector has changed meanwhile") }
