package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// The outbox statements name no tenant: the relay carries all of them, by a
// policy of its own, and a row holds ids and a category only.

const messageColumns = `m.id, m.tenant_id, m.revision, m.all_organizations, m.organization_id, m.category,
	m.connector_id::text, m.status, m.at`

// They run up to four times a second in each control plane, so each has an
// index. An age counts from now(), because clock_timestamp() is volatile and
// would keep outbox_at from being used; where an index on ids serves, it is exact.
const (
	relaySQL = `SELECT ` + messageColumns + ` FROM outbox m WHERE m.sent_at IS NULL
		ORDER BY m.id LIMIT $1::bigint FOR UPDATE SKIP LOCKED`
	unsentSQL = `SELECT EXISTS (SELECT FROM outbox m WHERE m.sent_at IS NULL
		AND m.at <= clock_timestamp() - $1::bigint * interval '1 microsecond')`
	lastSentSQL = `SELECT coalesce(max(m.id), 0) FROM outbox m WHERE m.sent_at IS NOT NULL`
	sentSQL     = `SELECT ` + messageColumns + ` FROM outbox m WHERE m.sent_at IS NOT NULL AND m.id > $1::bigint
		AND m.at > now() - $2::bigint * interval '1 microsecond' ORDER BY m.id LIMIT $3::bigint`
	sweepSQL = `WITH gone AS (DELETE FROM outbox m WHERE m.sent_at IS NOT NULL
		AND m.at <= now() - $1::bigint * interval '1 microsecond' RETURNING 1)
		SELECT count(*) FROM gone`
)

func scanMessage(rows pgx.Row) (m connector.Message, err error) {
	var id string
	var organization, category, connectorID *string
	err = rows.Scan(&m.ID, &id, &m.Revision, &m.All, &organization, &category, &connectorID, &m.Status, &m.At)
	if err != nil {
		return m, err
	}
	m.At, m.Category = m.At.UTC(), providers.Category(text(category))
	if m.Tenant, err = tenant.ParseID(id); err != nil {
		return m, err
	}
	if m.Organization, err = organizationOf(organization); err != nil {
		return m, err
	}
	if connectorID != nil {
		m.Connector, err = connector.ParseID(*connectorID)
	}
	return m, err
}

// Relay implements connector.Outbox.
func (s *Store) Relay(ctx context.Context, n int, send func(context.Context, []connector.Message) error) (int, error) {
	tx, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer s.rollback(tx)
	rows, err := tx.Query(ctx, relaySQL, int64(n))
	if err != nil {
		return 0, s.writeFailed(classify(ctx, err))
	}
	ms, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (connector.Message, error) { return scanMessage(row) })
	if err != nil {
		return 0, s.writeFailed(classify(ctx, err))
	}
	if len(ms) == 0 {
		return 0, nil
	}
	if err := send(ctx, ms); err != nil {
		return 0, err
	}
	ids := make([]int64, len(ms))
	for i, m := range ms {
		ids[i] = m.ID
	}
	if _, err := tx.Exec(ctx, `UPDATE outbox SET sent_at = clock_timestamp() WHERE id = ANY ($1::bigint[])`, ids); err != nil {
		return 0, classify(ctx, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return 0, classify(ctx, err)
	}
	return len(ms), nil
}

// Unsent implements connector.Outbox. It is a plain read: a row that another
// relay has locked still counts.
func (s *Store) Unsent(ctx context.Context, age time.Duration) (unsent bool, err error) {
	err = s.read(ctx, scope{}, unsentSQL, []any{age.Microseconds()},
		func(rows pgx.Rows) error { return rows.Scan(&unsent) })
	return unsent, err
}

// LastSent implements connector.Outbox.
func (s *Store) LastSent(ctx context.Context) (id int64, err error) {
	err = s.read(ctx, scope{}, lastSentSQL, nil,
		func(rows pgx.Rows) error { return rows.Scan(&id) })
	return id, err
}

// Sent implements connector.Outbox.
func (s *Store) Sent(ctx context.Context, age time.Duration, after int64, n int) (ms []connector.Message, err error) {
	err = s.read(ctx, scope{}, sentSQL, []any{after, age.Microseconds(), int64(n)}, func(rows pgx.Rows) error {
		m, err := scanMessage(rows)
		ms = append(ms, m)
		return err
	})
	return ms, err
}

// Committed implements connector.Outbox.
func (s *Store) Committed() <-chan struct{} { return s.committed }

func (s *Store) signalCommit() {
	select {
	case s.committed <- struct{}{}:
	default:
	}
}

// SweepOutbox implements connector.Outbox.
func (s *Store) SweepOutbox(ctx context.Context, age time.Duration) (int64, error) {
	var n int64
	err := s.read(ctx, scope{}, sweepSQL, []any{age.Microseconds()},
		func(rows pgx.Rows) error { return rows.Scan(&n) })
	return n, s.writeFailed(err)
}
