package change

import (
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// CheckAudit tells whether an entry can be written; time, actor and request are
// not the entry's to say.
// Errors: fault.InvalidArgument.
func CheckAudit(e *connector.AuditEntry) error {
	if e.Action == "" || e.Outcome == "" {
		return fault.New(fault.InvalidArgument, "an audit entry needs an action and an outcome")
	}
	if utf8.RuneCountInString(e.Note) > connector.MaxNote {
		return fault.Newf(fault.InvalidArgument, "a reason has at most %d characters", connector.MaxNote)
	}
	if err := Text(e.Action, e.Target, e.Outcome, e.Note); err != nil {
		return err
	}
	return Text(e.Fields...)
}

// CheckActor tells whether somebody can stand in an audit entry.
// Errors: fault.InvalidArgument.
func CheckActor(actor, request string) error {
	if actor == "" {
		return fault.New(fault.InvalidArgument, "a change needs an actor")
	}
	return Text(actor, request)
}
