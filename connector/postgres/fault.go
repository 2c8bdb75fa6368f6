package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// SQLSTATEs that are told apart (PostgreSQL, appendix A).
const (
	stateUniqueViolation     = "23505"
	stateForeignKeyViolation = "23503"
	stateCheckViolation      = "23514"
	stateSerialization       = "40001"
	stateDeadlock            = "40P01"
	stateLockNotAvailable    = "55P03"
	stateQueryCanceled       = "57014"
	stateReadOnly            = "25006"
	stateUndefinedTable      = "42P01"
	stateNoDatabase          = "3D000"
	statePrivilege           = "42501"
	stateIdleInTransaction   = "25P03"
	stateDuplicateObject     = "42710"
)

// classify turns a pgx error into a fault, once. Faults pass through.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*fault.Error](err); known {
		return err
	}
	// The context is asked first: a connection that pgx closed because the
	// caller's time was up says "closed", not "too late".
	if ctx.Err() != nil {
		return fault.New(fault.DeadlineExceeded, "the database did not answer in time").WithCause(err)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifyState(pg, err)
	}
	return fault.New(fault.Unavailable, "the database is not reachable").WithCause(err)
}

func classifyState(pg *pgconn.PgError, err error) error {
	switch pg.ConstraintName {
	case "tenants_purging":
		return change.Purging()
	case "tenants_purged":
		return change.PurgedBefore()
	}
	code, message := fault.Internal, "the database refused the statement"
	switch pg.Code {
	case stateUniqueViolation:
		code, message = fault.Conflict, uniqueMessage(pg.ConstraintName)
	case stateForeignKeyViolation:
		code, message = fault.Conflict, "a record that this one refers to does not exist"
	case stateSerialization, stateDeadlock, stateLockNotAvailable:
		code, message = fault.Conflict, "another change came in between, try again"
	case stateQueryCanceled:
		code, message = fault.DeadlineExceeded, "the database did not answer in time"
	case stateReadOnly:
		code, message = fault.Unavailable, "the database is read-only at the moment"
	case stateIdleInTransaction:
		code, message = fault.DeadlineExceeded, "the change took too long"
	case statePrivilege:
		// Row-level security refuses a row with the same state. That is a fault of
		// ours, while a missing right is the operator's to give.
		if pg.Routine != "ExecWithCheckOptions" {
			code, message = fault.Unavailable, "the database login lacks a right: make it a member of its patchbay_ roles"
		}
	case stateUndefinedTable:
		code, message = fault.Unavailable, "the database has no schema yet: run sidecar migrate"
	case stateNoDatabase:
		code, message = fault.Unavailable, "the database does not exist"
	default:
		switch pg.Code[:min(2, len(pg.Code))] {
		case "08", "53", "57", "58", "28": // connection, resources, operator intervention, system, login
			code, message = fault.Unavailable, "the database is not reachable"
		case "22", "23": // data, constraints
			code, message = fault.InvalidArgument, "the database does not accept the record"
		}
	}
	return fault.New(code, message).WithCause(err)
}

func uniqueMessage(constraint string) string {
	switch constraint {
	case "connectors_default":
		return "the organization already has a default connector of this category"
	case "connectors_external_id", "organizations_external_id":
		return "the external id is already in use"
	default:
		return "the record already exists"
	}
}

func stateOf(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// retryable tells whether a transaction that failed so may simply run again.
func retryable(err error) bool {
	s := stateOf(err)
	return s == stateSerialization || s == stateDeadlock
}

// connectionLost tells whether an established connection broke under a
// statement: a pooled one that died while idle looks like that, and a fresh
// connection may well work. A failed dial is not repeated.
func connectionLost(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var dial *pgconn.ConnectError
	var known *fault.Error
	if errors.As(err, &dial) || errors.As(err, &known) {
		return false
	}
	// FATAL is what a server says before it closes: shutdown, crash, an idle
	// time-out, a pooler that restarts.
	var pg *pgconn.PgError
	return !errors.As(err, &pg) || pg.SeverityUnlocalized == "FATAL"
}
