package sqlite

import (
	"context"
	"errors"
	"strings"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// classify turns an error of the driver or of database/sql into a fault, once.
// Faults pass through.
func (s *Store) classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*fault.Error](err); known {
		return err
	}
	// The context is asked first: database/sql rolls back by itself when it
	// ends, and what failed then says "done" or "interrupted", not "too late".
	if ctx.Err() != nil {
		return fault.New(fault.DeadlineExceeded, "the database did not answer in time").WithCause(err)
	}
	if s.closed.Load() {
		return fault.New(fault.Unavailable, "the database is closed").WithCause(err)
	}
	return classifyCode(err)
}

func classifyCode(err error) error {
	var e *driver.Error
	if !errors.As(err, &e) {
		return fault.New(fault.Internal, "the database call went wrong").WithCause(err)
	}
	if e.Code() == lib.SQLITE_CONSTRAINT_TRIGGER { // which has no name of its own but in the text
		switch {
		case strings.Contains(e.Error(), "tenants_purging"):
			return change.Purging()
		case strings.Contains(e.Error(), "tenants_purged"):
			return change.PurgedBefore()
		}
	}
	code, message := fault.Internal, "the database refused the statement"
	switch e.Code() {
	case lib.SQLITE_CONSTRAINT_UNIQUE, lib.SQLITE_CONSTRAINT_PRIMARYKEY:
		code, message = fault.Conflict, uniqueMessage(e.Error())
	case lib.SQLITE_CONSTRAINT_FOREIGNKEY:
		code, message = fault.Conflict, "a record that this one refers to does not exist"
	default:
		switch e.Code() & 0xff { // the primary code of an extended one
		case lib.SQLITE_CONSTRAINT, lib.SQLITE_TOOBIG, lib.SQLITE_MISMATCH:
			code, message = fault.InvalidArgument, "the database does not accept the record"
		case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
			code, message = fault.Unavailable, "another process holds the database"
		case lib.SQLITE_READONLY, lib.SQLITE_CANTOPEN, lib.SQLITE_PERM:
			code, message = fault.Unavailable, "the database file cannot be written"
		case lib.SQLITE_IOERR, lib.SQLITE_FULL, lib.SQLITE_NOMEM:
			code, message = fault.Unavailable, "the database file cannot be used at the moment"
		case lib.SQLITE_NOTADB, lib.SQLITE_CORRUPT:
			code, message = fault.Internal, "the database file is damaged or is none"
		}
	}
	return fault.New(code, message).WithCause(err)
}

// uniqueMessage tells the unique rules apart. SQLite names an index over
// expressions, and the columns of any other.
func uniqueMessage(text string) string {
	switch {
	case strings.Contains(text, "connectors_default"):
		return "the organization already has a default connector of this category"
	case strings.Contains(text, "external_id"):
		return "the external id is already in use"
	default:
		return "the record already exists"
	}
}
