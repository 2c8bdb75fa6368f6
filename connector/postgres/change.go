package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

const (
	changeAttempts = 4
	// rollbackTime is the time a rollback gets after its caller's time is up.
	rollbackTime = time.Second
)

// Change implements connector.Changer.
func (s *Store) Change(ctx context.Context, c connector.Change, fn func(context.Context, connector.Tx) error) (map[tenant.ID]int64, error) {
	locks, err := change.Plan(c)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		revisions, err := s.changeOnce(ctx, c, locks, fn)
		switch {
		case err == nil:
			s.signalCommit()
			return revisions, nil
		case err == error(connector.ErrNoChange): //nolint:errorlint // only changeOnce's own verdict: fn can wrap it around a failed statement
			return s.present(ctx, c)
		case attempt < changeAttempts && retryable(err) && ctx.Err() == nil:
			s.log.InfoContext(ctx, "transaction repeated", "attempt", attempt, "sqlstate", stateOf(err))
			if err := pause(ctx, attempt); err != nil {
				return nil, err
			}
		default:
			return nil, s.writeFailed(err)
		}
	}
}

// writeFailed lets go of a server that refuses to write: after a failover these
// connections lead to what is a standby now, and would go on doing so.
func (s *Store) writeFailed(err error) error {
	if stateOf(err) == stateReadOnly {
		s.pool.Reset()
	}
	return err
}

// pause separates two writers that met, by a jittered time.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(time.Duration(attempt)*5*time.Millisecond + rand.N(10*time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return classify(ctx, ctx.Err())
	}
}

// present answers a change that changed nothing.
func (s *Store) present(ctx context.Context, c connector.Change) (map[tenant.ID]int64, error) {
	r, err := s.revisions(ctx, c.Tenants)
	if err != nil {
		return nil, err
	}
	return r.Revision, nil
}

func (s *Store) begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := s.pool.Begin(ctx)
	if connectionLost(ctx, err) {
		s.pool.Reset()
		tx, err = s.pool.Begin(ctx)
	}
	if err != nil {
		return nil, classify(ctx, err)
	}
	if left := timeLeft(ctx); left != "" {
		// The second one frees the tenant's lock when this process hangs or is cut
		// off between two statements: nobody else could write until then.
		if _, err := tx.Exec(ctx, `SELECT set_config('statement_timeout', $1, true),
			set_config('idle_in_transaction_session_timeout', $1, true)`, left); err != nil {
			s.rollback(tx)
			return nil, classify(ctx, err)
		}
	}
	return tx, nil
}

// rollback frees the connection even when the caller's time is up; after a
// commit it does nothing.
func (s *Store) rollback(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTime)
	defer cancel()
	_ = tx.Rollback(ctx) // a connection that fails here is dropped by the pool
}

func (s *Store) changeOnce(ctx context.Context, c connector.Change, locks []change.Lock, fn func(context.Context, connector.Tx) error) (map[tenant.ID]int64, error) {
	pgtx, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.rollback(pgtx)
	t := &tx{pg: pgtx, change: c, revisions: make(map[tenant.ID]int64, len(locks)), noted: map[tenant.ID]bool{}}
	for _, l := range locks {
		if err := t.lock(ctx, l); err != nil {
			return nil, err
		}
	}
	if err := fn(ctx, t); err != nil {
		// A failed statement decides over what fn made of it: only so is a
		// deadlock repeated.
		if retryable(t.failed) {
			return nil, t.failed
		}
		if errors.Is(err, connector.ErrNoChange) && t.failed == nil {
			return nil, connector.ErrNoChange
		}
		return nil, err
	}
	if t.failed != nil {
		return nil, t.failed
	}
	for _, l := range locks {
		if !t.noted[l.ID] {
			// The revision moved, so sidecars must hear of it; it names nothing.
			if err := t.note(ctx, connector.Message{Tenant: l.ID}); err != nil {
				return nil, err
			}
		}
	}
	if err := s.commit(ctx, pgtx, c); err != nil {
		return nil, err
	}
	return t.revisions, nil
}

func (s *Store) commit(ctx context.Context, pgtx pgx.Tx, c connector.Change) error {
	if !c.SecretsWritten.IsZero() {
		left := c.SecretsWritten.Add(connector.MaxSecretAge).Sub(s.now())
		if left <= 0 {
			return fault.New(fault.DeadlineExceeded, "the change took too long after its secrets were written, try again")
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	return classify(ctx, pgtx.Commit(ctx))
}

// tx implements connector.Tx. It belongs to one goroutine, as its connection does.
type tx struct {
	pg        pgx.Tx
	change    connector.Change
	current   tenant.ID // whom app.tenant names
	revisions map[tenant.ID]int64
	noted     map[tenant.ID]bool // tenants with an outbox row
	failed    error              // the first failed statement: Postgres commits nothing after it
}

// Tenant implements connector.Tx.
func (t *tx) Tenant(id tenant.ID) connector.TenantTx { return &tenantTx{tx: t, id: id} }

// query runs one statement as one tenant; scan may be nil. It returns the
// number of rows.
func (t *tx) query(ctx context.Context, id tenant.ID, sql string, args []any, scan func(pgx.Rows) error) (int64, error) {
	if t.failed != nil {
		return 0, t.failed
	}
	n, err := t.queryOnce(ctx, id, sql, args, scan)
	if err != nil {
		t.failed = classify(ctx, err)
		return 0, t.failed
	}
	return n, nil
}

func (t *tx) queryOnce(ctx context.Context, id tenant.ID, sql string, args []any, scan func(pgx.Rows) error) (n int64, err error) {
	var b pgx.Batch
	if t.current != id {
		b.Queue(`SELECT set_config('app.tenant', $1, true)`, id.String())
	}
	b.Queue(sql, args...)
	results := t.pg.SendBatch(ctx, &b)
	defer func() {
		if closing := results.Close(); err == nil {
			err = closing
		}
	}()
	if t.current != id {
		if _, err := results.Exec(); err != nil {
			return 0, err
		}
		t.current = id
	}
	rows, err := results.Query()
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		if scan == nil {
			continue
		}
		if err := scan(rows); err != nil {
			return 0, unreadable(err)
		}
	}
	return rows.CommandTag().RowsAffected(), rows.Err()
}

// lock moves a tenant's revision, which is its lock and its commit order, or
// creates it. Nothing else may come before it in the transaction.
func (t *tx) lock(ctx context.Context, l change.Lock) error {
	var revision int64
	scan := func(rows pgx.Rows) error { return rows.Scan(&revision) }
	if l.Create == nil {
		n, err := t.query(ctx, l.ID, `UPDATE tenants SET revision =
			greatest(revision + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
			WHERE id = $1 RETURNING revision`, []any{l.ID.String()}, scan)
		if err == nil && n == 0 {
			err = fault.New(fault.NotFound, "there is no such tenant")
		}
		t.revisions[l.ID] = revision
		return err
	}
	c := l.Create
	n, err := t.query(ctx, l.ID, `INSERT INTO tenants (id, external_id, name, status, no_update, revision)
		VALUES ($1, $2, $3, $4, $5, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
		ON CONFLICT (id) DO NOTHING RETURNING revision`,
		[]any{c.ID.String(), null(c.ExternalID), c.Name, string(c.Status), c.NoUpdate}, scan)
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
	_, err := t.query(ctx, m.Tenant, `INSERT INTO outbox
		(tenant_id, revision, all_organizations, organization_id, category, connector_id, status)
		VALUES ($1, $2, $3, $4, $5, $6::uuid, $7)`,
		[]any{m.Tenant.String(), t.revisions[m.Tenant], m.All, null(m.Organization.String()),
			null(string(m.Category)), null(m.Connector.String()), m.Status}, nil)
	return err
}

// done is the audit entry of a write: names of what changed, never a value.
func done(action, target string, fields []string) connector.AuditEntry {
	return connector.AuditEntry{Action: action, Target: target, Outcome: "ok", Fields: fields}
}

// audit leaves an audit row.
func (t *tx) audit(ctx context.Context, id tenant.ID, e connector.AuditEntry) error {
	sql, args := auditRow(id, t.change.Actor, t.change.Request, e)
	_, err := t.query(ctx, id, sql, args, nil)
	return err
}

const (
	auditSQL = `INSERT INTO audit (tenant_id, actor, action, target, outcome, request_id, fields)
		SELECT $1, $2, $3, $4, $5, $6, $7::text[] FROM tenants t WHERE t.id = $1 RETURNING 1`
	notedAuditSQL = `INSERT INTO audit (tenant_id, actor, action, target, outcome, request_id, fields, note)
		SELECT $1, $2, $3, $4, $5, $6, $7::text[], $8 FROM tenants t WHERE t.id = $1 RETURNING 1`
)

// auditRow writes an entry of a tenant that exists, and returns a row if it did.
// Only an entry with a note needs its column, so that a build which comes before
// its migration can write all others.
func auditRow(id tenant.ID, actor, request string, e connector.AuditEntry) (sql string, args []any) {
	if e.Fields == nil {
		e.Fields = []string{}
	}
	args = []any{id.String(), actor, e.Action, e.Target, e.Outcome, request, e.Fields}
	if e.Note == "" {
		return auditSQL, args
	}
	return notedAuditSQL, append(args, e.Note)
}

// RecordAudit implements connector.Changer.
func (s *Store) RecordAudit(ctx context.Context, t tenant.ID, actor, request string, e connector.AuditEntry) error {
	if err := change.CheckActor(actor, request); err != nil {
		return err
	}
	if err := change.CheckAudit(&e); err != nil {
		return err
	}
	written := false
	sql, args := auditRow(t, actor, request, e)
	err := s.read(ctx, scope{tenant: t}, sql, args, func(pgx.Rows) error { written = true; return nil })
	if err == nil && !written {
		err = fault.New(fault.NotFound, "there is no such tenant")
	}
	return s.writeFailed(err)
}

// RecordTest implements connector.Changer.
func (s *Store) RecordTest(ctx context.Context, t tenant.ID, id connector.ID, version int64, state connector.State, report []byte) error {
	if err := change.CheckTest(state, report); err != nil {
		return err
	}
	for { // as often as another report comes in between
		recorded, err := s.recordTestOnce(ctx, t, id, version, state, report)
		if err != nil || recorded {
			return s.writeFailed(err)
		}
	}
}

// recordTestOnce tells whether the report that it compared with was still the
// stored one when it wrote. It does so without a transaction around both: a
// reading that held on to the table for its write would meet a migration that
// holds on to it for more.
func (s *Store) recordTestOnce(ctx context.Context, t tenant.ID, id connector.ID, version int64, state connector.State, report []byte) (recorded bool, err error) {
	var present int64
	var last *string
	err = s.read(ctx, scope{tenant: t}, `SELECT c.version, c.last_test::text FROM connectors c
		WHERE c.tenant_id = $1 AND c.id = $2::uuid AND c.deleted_at IS NULL`,
		[]any{t.String(), null(id.String())}, func(rows pgx.Rows) error { return rows.Scan(&present, &last) })
	switch {
	case err != nil:
		return false, err
	case present == 0:
		return false, notFound()
	case present != version:
		return false, stale()
	}
	if err := change.CheckTestOrder([]byte(text(last)), report); err != nil {
		return false, err
	}
	err = s.read(ctx, scope{tenant: t}, `UPDATE connectors SET last_test = $5::json,
		state = CASE state WHEN 'needs_reauthorization' THEN state ELSE $4 END
		WHERE tenant_id = $1 AND id = $2::uuid AND version = $3 AND deleted_at IS NULL
			AND last_test::text IS NOT DISTINCT FROM $6 RETURNING 1`,
		[]any{t.String(), null(id.String()), version, string(state), null(string(report)), last}, seen(&recorded))
	return recorded, err
}

func notFound() error { return fault.New(fault.NotFound, "there is no such connector") }

func stale() error { return fault.New(fault.StaleVersion, "the connector has changed meanwhile") }
