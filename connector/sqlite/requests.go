package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// A claim is a row of status 0 whose response holds the claim's token; an outcome
// one of status 1 whose response is the outcome.

// ClaimRequest implements connector.Requests.
func (s *Store) ClaimRequest(ctx context.Context, c connector.Claim, d time.Duration) (bool, *connector.RequestOutcome, error) {
	if err := change.CheckClaim(c); err != nil {
		return false, nil, err
	}
	held, err := change.ClaimText(c)
	if err != nil {
		return false, nil, unreadable(err)
	}
	begun, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return false, nil, s.classify(ctx, err)
	}
	defer begun.Rollback() //nolint:errcheck // after a commit it does nothing; before, the connection is dropped
	w := &tx{store: s, sql: begun}
	now := micros(s.now())
	n, err := w.query(ctx, nil, `INSERT INTO idempotency_keys
		(tenant_id, key_hash, request_hash, actor, status, response, created_at, expires_at)
		SELECT ?1, ?2, ?3, ?4, 0, ?5, ?6, ?7 WHERE ?1 = '' OR EXISTS (SELECT 1 FROM tenants t WHERE t.id = ?1)
		ON CONFLICT (tenant_id, key_hash) DO UPDATE SET request_hash = excluded.request_hash, actor = excluded.actor,
			status = 0, response = excluded.response, created_at = excluded.created_at, expires_at = excluded.expires_at
			WHERE idempotency_keys.expires_at <= excluded.created_at
		RETURNING 1`, c.Tenant.String(), c.Key[:], c.Request[:], c.Actor, held, now, now+d.Microseconds())
	if err != nil {
		return false, nil, err
	}
	if n > 0 {
		return true, nil, s.classify(ctx, begun.Commit())
	}
	var request []byte
	var status int
	var response string
	n, err = w.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&request, &status, &response) },
		`SELECT k.request_hash, k.status, k.response FROM idempotency_keys k WHERE k.tenant_id = ?1 AND k.key_hash = ?2`,
		c.Tenant.String(), c.Key[:])
	switch {
	case err != nil:
		return false, nil, err
	case n == 0:
		return false, nil, noTenant()
	case [32]byte(request) != c.Request:
		return false, nil, change.AnotherRequest()
	case status == 0:
		return change.IsClaim(response, c), nil, nil
	}
	var o connector.RequestOutcome
	if err := json.Unmarshal([]byte(response), &o); err != nil {
		return false, nil, unreadable(err)
	}
	return false, &o, nil
}

// FreeRequest implements connector.Requests.
func (s *Store) FreeRequest(ctx context.Context, c connector.Claim) error {
	_, err := s.write.ExecContext(ctx, `DELETE FROM idempotency_keys WHERE tenant_id = ?1 AND key_hash = ?2
		AND status = 0 AND response ->> 'claim' = ?3`, c.Tenant.String(), c.Key[:], c.Token)
	return s.classify(ctx, err)
}

// SettleRequest implements connector.TenantTx.
func (t *tenantTx) SettleRequest(ctx context.Context, c connector.Claim, o connector.RequestOutcome, keep time.Duration) error {
	if err := t.named(); err != nil {
		return err
	}
	if err := change.CheckSettled(c, t.id); err != nil {
		return err
	}
	response, err := json.Marshal(o)
	if err != nil {
		return fault.New(fault.Internal, "a request's outcome can't be written").WithCause(err)
	}
	n, err := t.tx.query(ctx, nil, `UPDATE idempotency_keys SET status = 1, response = ?4, expires_at = ?5
		WHERE tenant_id = ?1 AND key_hash = ?2 AND status = 0 AND response ->> 'claim' = ?3 RETURNING 1`,
		c.Tenant.String(), c.Key[:], c.Token, string(response), micros(t.tx.now)+keep.Microseconds())
	if err == nil && n == 0 {
		err = change.ClaimLost()
	}
	return err
}

// SweepRequests implements connector.Requests.
func (s *Store) SweepRequests(ctx context.Context) (int64, error) {
	return s.sweep(ctx, `DELETE FROM idempotency_keys WHERE expires_at < ?1`, micros(s.now()))
}

func (s *Store) sweep(ctx context.Context, statement string, args ...any) (int64, error) {
	r, err := s.write.ExecContext(ctx, statement, args...)
	if err != nil {
		return 0, s.classify(ctx, err)
	}
	n, err := r.RowsAffected()
	return n, s.classify(ctx, err)
}

// SweepAudit implements connector.Changer.
func (s *Store) SweepAudit(ctx context.Context, age time.Duration, n int) (int64, error) {
	if err := change.CheckRetention(age); err != nil {
		return 0, err
	}
	return s.sweep(ctx, `DELETE FROM audit WHERE id IN (SELECT a.id FROM audit a WHERE a.at < ?1 ORDER BY a.at LIMIT ?2)`,
		micros(s.now().Add(-age)), n)
}

const consentColumns = `s.state_hash, s.tenant_id, s.connector_id, s.issuer, s.subject, s.redirect_uri, s.verifier_sealed, s.code_sealed, s.expires_at`

func scanConsent(rows *sql.Rows) (c connector.Consent, err error) {
	var state []byte
	var id, of string
	var expires int64
	if err = rows.Scan(&state, &id, &of, &c.Issuer, &c.Subject, &c.RedirectURI, &c.Verifier, &c.Code, &expires); err != nil {
		return c, err
	}
	copy(c.State[:], state)
	c.ExpiresAt = instant(expires)
	if c.Tenant, err = tenant.ParseID(id); err != nil {
		return c, unreadable(err)
	}
	if c.Connector, err = connector.ParseID(of); err != nil {
		return c, unreadable(err)
	}
	return c, nil
}

// PutConsent implements connector.Consents.
func (s *Store) PutConsent(ctx context.Context, c connector.Consent) error {
	n, err := s.sweep(ctx, `INSERT INTO oauth_states
		(tenant_id, state_hash, connector_id, issuer, subject, redirect_uri, verifier_sealed, created_at, expires_at)
		SELECT c.tenant_id, ?3, c.id, ?4, ?5, ?6, ?7, ?8, ?9 FROM connectors c
		WHERE c.tenant_id = ?1 AND c.id = ?2 AND c.deleted_at IS NULL`,
		c.Tenant.String(), c.Connector.String(), c.State[:], c.Issuer, c.Subject, c.RedirectURI, c.Verifier, micros(s.now()), micros(c.ExpiresAt))
	if err == nil && n == 0 {
		err = noConnector()
	}
	return err
}

// Consent implements connector.Consents. It names no tenant: who knows a state may
// see its row.
func (s *Store) Consent(ctx context.Context, state [32]byte) (c connector.Consent, err error) {
	found := false
	err = s.query(ctx, func(rows *sql.Rows) (err error) {
		found = true
		c, err = scanConsent(rows)
		return err
	}, `SELECT `+consentColumns+` FROM oauth_states s WHERE s.state_hash = ?1 AND s.handle_hash IS NULL AND s.expires_at > ?2`,
		state[:], micros(s.now()))
	if err == nil && !found {
		err = change.NoConsent()
	}
	return c, err
}

// AnswerConsent implements connector.Consents.
func (s *Store) AnswerConsent(ctx context.Context, state, handle [32]byte, verifier, code []byte, d time.Duration) error {
	now := micros(s.now())
	n, err := s.sweep(ctx, `UPDATE oauth_states SET handle_hash = ?2, verifier_sealed = ?3, code_sealed = ?4, handle_expires_at = ?5
		WHERE state_hash = ?1 AND handle_hash IS NULL AND expires_at > ?6`,
		state[:], handle[:], verifier, code, now+d.Microseconds(), now)
	if err == nil && n == 0 {
		err = change.NoConsent()
	}
	return err
}

// TakeConsent implements connector.Consents.
func (s *Store) TakeConsent(ctx context.Context, t tenant.ID, id connector.ID, handle [32]byte, issuer, subject string) (c connector.Consent, err error) {
	found := false
	err = queryOn(ctx, s.write, func(rows *sql.Rows) (err error) {
		found = true
		c, err = scanConsent(rows)
		return err
	}, `DELETE FROM oauth_states WHERE tenant_id = ?1 AND connector_id = ?2 AND handle_hash = ?3
		AND issuer = ?4 AND subject = ?5 AND handle_expires_at > ?6 RETURNING state_hash, tenant_id, connector_id,
		issuer, subject, redirect_uri, verifier_sealed, code_sealed, expires_at`,
		t.String(), id.String(), handle[:], issuer, subject, micros(s.now()))
	if err == nil && !found {
		err = change.NoConsent()
	}
	return c, s.classify(ctx, err)
}

// endConsents ends a connector's consents under way.
func (t *tenantTx) endConsents(ctx context.Context, id connector.ID) error {
	return t.exec(ctx, `DELETE FROM oauth_states WHERE tenant_id = ?1 AND connector_id = ?2`, id.String())
}

// SweepConsents implements connector.Consents.
func (s *Store) SweepConsents(ctx context.Context) (int64, error) {
	return s.sweep(ctx, `DELETE FROM oauth_states WHERE expires_at < ?1`, micros(s.now()))
}
