package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/providers"
)

const messageColumns = `x.id, x.tenant_id, x.revision, x.all_organizations, x.organization_id, x.category, x.connector_id, x.status, x.at`

func scanMessage(rows *sql.Rows) (m connector.Message, err error) {
	var tenantID string
	var org, category, id sql.NullString
	var at int64
	if err = rows.Scan(&m.ID, &tenantID, &m.Revision, &m.All, &org, &category, &id, &m.Status, &at); err != nil {
		return m, err
	}
	m.Category, m.At = providers.Category(category.String), instant(at)
	err = firstError(
		func() error { return m.Tenant.UnmarshalText([]byte(tenantID)) },
		func() error { return m.Organization.UnmarshalText([]byte(org.String)) },
		func() error { return m.Connector.UnmarshalText([]byte(id.String)) },
	)
	if err != nil {
		return m, unreadable(err)
	}
	return m, nil
}

// Relay implements connector.Outbox. Rows are claimed in memory instead of
// locked in the file: SQLite has one lock for all, and a slow send would stop
// every writer. A claim ends with its process, as a lock would.
func (s *Store) Relay(ctx context.Context, n int, send func(ctx context.Context, ms []connector.Message) error) (int, error) {
	ms, err := s.claim(ctx, n)
	if err != nil || len(ms) == 0 {
		return 0, err
	}
	defer s.unclaim(ms) // after the mark: a row is claimed or sent, never neither
	if err := send(ctx, ms); err != nil {
		return 0, err
	}
	ids := make([]int64, len(ms))
	for i, m := range ms {
		ids[i] = m.ID
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, unreadable(err)
	}
	_, err = s.write.ExecContext(ctx, `UPDATE outbox SET sent_at = ?1
		WHERE sent_at IS NULL AND id IN (SELECT j.value FROM json_each(?2) j)`, micros(s.now()), string(list))
	if err != nil {
		return 0, s.classify(ctx, err)
	}
	return len(ms), nil
}

// claim takes the oldest unsent rows that no other relay holds. The reading is
// under the mutex: what another relay has sent since is still claimed by it.
func (s *Store) claim(ctx context.Context, n int) (ms []connector.Message, err error) {
	s.relaying.Lock()
	defer s.relaying.Unlock()
	err = s.query(ctx, func(rows *sql.Rows) error {
		m, err := scanMessage(rows)
		if err == nil && !s.claimed[m.ID] && len(ms) < n {
			ms = append(ms, m)
		}
		return err
	}, `SELECT `+messageColumns+` FROM outbox x WHERE x.sent_at IS NULL ORDER BY x.id LIMIT ?1`, n+len(s.claimed))
	if err != nil {
		return nil, err
	}
	for _, m := range ms {
		s.claimed[m.ID] = true
	}
	return ms, nil
}

func (s *Store) unclaim(ms []connector.Message) {
	s.relaying.Lock()
	defer s.relaying.Unlock()
	for _, m := range ms {
		delete(s.claimed, m.ID)
	}
}

// before is the moment age ago.
func (s *Store) before(age time.Duration) int64 { return micros(s.now().Add(-age)) }

// Unsent implements connector.Outbox.
func (s *Store) Unsent(ctx context.Context, age time.Duration) (unsent bool, err error) {
	err = s.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&unsent) },
		`SELECT EXISTS (SELECT 1 FROM outbox x WHERE x.sent_at IS NULL AND x.at <= ?1)`, s.before(age))
	return unsent, err
}

// LastSent implements connector.Outbox.
func (s *Store) LastSent(ctx context.Context) (id int64, err error) {
	err = s.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&id) },
		`SELECT coalesce(max(x.id), 0) FROM outbox x WHERE x.sent_at IS NOT NULL`)
	return id, err
}

// Sent implements connector.Outbox.
func (s *Store) Sent(ctx context.Context, age time.Duration, after int64, n int) (ms []connector.Message, err error) {
	err = s.query(ctx, func(rows *sql.Rows) error {
		m, err := scanMessage(rows)
		ms = append(ms, m)
		return err
	}, `SELECT `+messageColumns+` FROM outbox x WHERE x.sent_at IS NOT NULL AND x.at > ?1 AND x.id > ?2
		ORDER BY x.id LIMIT ?3`, s.before(age), after, n)
	return ms, err
}

// Committed implements connector.Outbox.
func (s *Store) Committed() <-chan struct{} { return s.committed }

// SweepOutbox implements connector.Outbox.
func (s *Store) SweepOutbox(ctx context.Context, age time.Duration) (int64, error) {
	result, err := s.write.ExecContext(ctx, `DELETE FROM outbox WHERE sent_at IS NOT NULL AND at <= ?1`, s.before(age))
	if err != nil {
		return 0, s.classify(ctx, err)
	}
	n, err := result.RowsAffected()
	return n, s.classify(ctx, err)
}
