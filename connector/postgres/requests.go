package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// A claim is a row of status 0 whose response holds the claim's token; an outcome
// one of status 1 whose response is the outcome.
const (
	claimSQL = `INSERT INTO idempotency_keys (tenant_id, key_hash, request_hash, actor, status, response, expires_at)
		SELECT $1::text, $2, $3, $4, 0, jsonb_build_object('claim', $5::text), clock_timestamp() + $6::bigint * interval '1 microsecond'
		WHERE $1::text = '' OR EXISTS (SELECT FROM tenants t WHERE t.id = $1::text)
		ON CONFLICT (tenant_id, key_hash) DO UPDATE SET request_hash = excluded.request_hash, actor = excluded.actor,
			status = 0, response = excluded.response, created_at = clock_timestamp(), expires_at = excluded.expires_at
			WHERE idempotency_keys.expires_at <= clock_timestamp()
		RETURNING 1`
	requestSQL = `SELECT k.request_hash, k.status, k.response::text FROM idempotency_keys k
		WHERE k.tenant_id = $1 AND k.key_hash = $2 AND k.expires_at > clock_timestamp()`
)

// ClaimRequest implements connector.Requests.
func (s *Store) ClaimRequest(ctx context.Context, c connector.Claim, d time.Duration) (bool, *connector.RequestOutcome, error) {
	if err := change.CheckClaim(c); err != nil {
		return false, nil, err
	}
	for range 3 { // what is in the way may end between the two statements
		claimed := false
		err := s.read(ctx, scope{tenant: c.Tenant}, claimSQL,
			[]any{c.Tenant.String(), c.Key[:], c.Request[:], c.Actor, c.Token, d.Microseconds()}, seen(&claimed))
		if err != nil || claimed {
			return claimed, nil, s.writeFailed(err)
		}
		var request []byte
		var status int
		var response string
		err = s.read(ctx, scope{tenant: c.Tenant}, requestSQL, []any{c.Tenant.String(), c.Key[:]},
			func(rows pgx.Rows) error { return rows.Scan(&request, &status, &response) })
		switch {
		case err != nil:
			return false, nil, err
		case request == nil:
			if exists, err := s.exists(ctx, c.Tenant); err != nil || !exists {
				return false, nil, firstError(err, fault.New(fault.NotFound, "there is no such tenant"))
			}
			continue
		case [32]byte(request) != c.Request:
			return false, nil, change.AnotherRequest()
		case status == 0:
			// Its own, when the connection was lost between the claim and its answer.
			return change.IsClaim(response, c), nil, nil
		}
		var o connector.RequestOutcome
		if err := json.Unmarshal([]byte(response), &o); err != nil {
			return false, nil, unreadable(err)
		}
		return false, &o, nil
	}
	return false, nil, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) exists(ctx context.Context, t tenant.ID) (exists bool, err error) {
	if t.IsZero() {
		return true, nil
	}
	err = s.read(ctx, scope{tenant: t}, `SELECT 1 FROM tenants t WHERE t.id = $1`, []any{t.String()}, seen(&exists))
	return exists, err
}

// FreeRequest implements connector.Requests.
func (s *Store) FreeRequest(ctx context.Context, c connector.Claim) error {
	err := s.read(ctx, scope{tenant: c.Tenant}, `DELETE FROM idempotency_keys k WHERE k.tenant_id = $1 AND k.key_hash = $2
		AND k.status = 0 AND k.response ->> 'claim' = $3`, []any{c.Tenant.String(), c.Key[:], c.Token},
		func(pgx.Rows) error { return nil })
	return s.writeFailed(err)
}

// SettleRequest implements connector.TenantTx.
func (t *tenantTx) SettleRequest(ctx context.Context, c connector.Claim, o connector.RequestOutcome, keep time.Duration) error {
	if err := firstError(t.named(), change.CheckSettled(c, t.id)); err != nil {
		return err
	}
	response, err := json.Marshal(o)
	if err != nil {
		return fault.New(fault.Internal, "a request's outcome can't be written").WithCause(err)
	}
	settled := false
	_, err = t.tx.query(ctx, c.Tenant, `UPDATE idempotency_keys k SET status = 1, response = $4::jsonb,
		expires_at = clock_timestamp() + $5::bigint * interval '1 microsecond'
		WHERE k.tenant_id = $1 AND k.key_hash = $2 AND k.status = 0 AND k.response ->> 'claim' = $3 RETURNING 1`,
		[]any{c.Tenant.String(), c.Key[:], c.Token, string(response), keep.Microseconds()}, seen(&settled))
	if err == nil && !settled {
		err = change.ClaimLost()
	}
	return err
}

const sweepRequestsSQL = `WITH gone AS (DELETE FROM idempotency_keys k WHERE k.expires_at < now() RETURNING 1) SELECT count(*) FROM gone`

// SweepRequests implements connector.Requests.
func (s *Store) SweepRequests(ctx context.Context) (n int64, err error) {
	err = s.read(ctx, scope{}, sweepRequestsSQL, nil, func(rows pgx.Rows) error { return rows.Scan(&n) })
	return n, s.writeFailed(err)
}

// sweepAuditSQL goes by where rows are, because a join with their keys would be free
// to read the whole table; no entry ever moves.
const sweepAuditSQL = `WITH gone AS (DELETE FROM audit a WHERE a.ctid = ANY (ARRAY (
		SELECT b.ctid FROM audit b WHERE b.at < now() - $1::bigint * interval '1 microsecond' ORDER BY b.at LIMIT $2::bigint))
		RETURNING 1) SELECT count(*) FROM gone`

// SweepAudit implements connector.Changer.
func (s *Store) SweepAudit(ctx context.Context, age time.Duration, n int) (deleted int64, err error) {
	if err := change.CheckRetention(age); err != nil {
		return 0, err
	}
	err = s.read(ctx, scope{}, sweepAuditSQL, []any{age.Microseconds(), int64(n)},
		func(rows pgx.Rows) error { return rows.Scan(&deleted) })
	return deleted, s.writeFailed(err)
}

const consentColumns = `s.state_hash, s.tenant_id, s.connector_id::text, s.issuer, s.subject, s.redirect_uri, s.verifier_sealed, s.code_sealed, s.expires_at`

func scanConsent(rows pgx.Row) (c connector.Consent, err error) {
	var state []byte
	var id, of string
	if err = rows.Scan(&state, &id, &of, &c.Issuer, &c.Subject, &c.RedirectURI, &c.Verifier, &c.Code, &c.ExpiresAt); err != nil {
		return c, err
	}
	copy(c.State[:], state)
	c.ExpiresAt = c.ExpiresAt.UTC()
	if c.Tenant, err = tenant.ParseID(id); err != nil {
		return c, err
	}
	c.Connector, err = connector.ParseID(of)
	return c, err
}

// PutConsent implements connector.Consents.
func (s *Store) PutConsent(ctx context.Context, c connector.Consent) error {
	put := false
	err := s.read(ctx, scope{tenant: c.Tenant}, `INSERT INTO oauth_states
		(tenant_id, state_hash, connector_id, issuer, subject, redirect_uri, verifier_sealed, expires_at)
		SELECT c.tenant_id, $3, c.id, $4, $5, $6, $7, $8 FROM connectors c
		WHERE c.tenant_id = $1 AND c.id = $2::uuid AND c.deleted_at IS NULL RETURNING 1`,
		[]any{c.Tenant.String(), null(c.Connector.String()), c.State[:], c.Issuer, c.Subject, c.RedirectURI, c.Verifier, c.ExpiresAt}, seen(&put))
	if err == nil && !put {
		err = notFound()
	}
	return s.writeFailed(err)
}

// Consent implements connector.Consents. It names no tenant: whoever knows a state
// sees its row, by a policy of its own.
func (s *Store) Consent(ctx context.Context, state [32]byte) (c connector.Consent, err error) {
	found := false
	err = s.read(ctx, scope{state: state[:]}, `SELECT `+consentColumns+` FROM oauth_states s
		WHERE s.state_hash = $1 AND s.handle_hash IS NULL AND s.expires_at > clock_timestamp()`, []any{state[:]},
		func(rows pgx.Rows) (err error) {
			found = true
			c, err = scanConsent(rows)
			return err
		})
	if err == nil && !found {
		err = change.NoConsent()
	}
	return c, err
}

// AnswerConsent implements connector.Consents, by the policy of Consent.
func (s *Store) AnswerConsent(ctx context.Context, state, handle [32]byte, verifier, code []byte, d time.Duration) error {
	answered := false
	err := s.read(ctx, scope{state: state[:]}, `UPDATE oauth_states s SET handle_hash = $2, verifier_sealed = $3, code_sealed = $4,
		handle_expires_at = clock_timestamp() + $5::bigint * interval '1 microsecond'
		WHERE s.state_hash = $1 AND s.handle_hash IS NULL AND s.expires_at > clock_timestamp() RETURNING 1`,
		[]any{state[:], handle[:], verifier, code, d.Microseconds()}, seen(&answered))
	if err == nil && !answered {
		err = change.NoConsent()
	}
	return s.writeFailed(err)
}

// TakeConsent implements connector.Consents.
func (s *Store) TakeConsent(ctx context.Context, t tenant.ID, id connector.ID, handle [32]byte, issuer, subject string) (c connector.Consent, err error) {
	found := false
	err = s.read(ctx, scope{tenant: t}, `DELETE FROM oauth_states s WHERE s.tenant_id = $1 AND s.connector_id = $2::uuid
		AND s.handle_hash = $3 AND s.issuer = $4 AND s.subject = $5 AND s.handle_expires_at > clock_timestamp()
		RETURNING `+consentColumns, []any{t.String(), null(id.String()), handle[:], issuer, subject},
		func(rows pgx.Rows) (err error) {
			found = true
			c, err = scanConsent(rows)
			return err
		})
	if err == nil && !found {
		err = change.NoConsent()
	}
	return c, s.writeFailed(err)
}

// endConsents ends a connector's consents under way.
func (t *tenantTx) endConsents(ctx context.Context, id connector.ID) error {
	return t.query(ctx, `DELETE FROM oauth_states WHERE tenant_id = $1 AND connector_id = $2::uuid`, []any{id.String()}, nil)
}

// SweepConsents implements connector.Consents.
func (s *Store) SweepConsents(ctx context.Context) (n int64, err error) {
	err = s.read(ctx, scope{}, `WITH gone AS (DELETE FROM oauth_states s WHERE s.expires_at < now() RETURNING 1)
		SELECT count(*) FROM gone`, nil, func(rows pgx.Rows) error { return rows.Scan(&n) })
	return n, s.writeFailed(err)
}
