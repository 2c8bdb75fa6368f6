package connector

import (
	"github.com/google/uuid"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// ID names a connector: a UUID (v7 when made here). The zero ID is none.
type ID struct{ u uuid.UUID }

// NewID returns a fresh, time-ordered id (RFC 9562, version 7).
func NewID() ID { return ID{uuid.Must(uuid.NewV7())} }

// ParseID accepts the 36-character form in either case, as RFC 9562 (section 4)
// asks of parsers, and none of the others: no braces, no urn:uuid:. What String
// returns is in lower case, so whoever looks for a name on disk or in Vault that
// an ID has to lead back to must compare it with that.
// Errors: fault.InvalidArgument.
func ParseID(s string) (ID, error) {
	u, err := uuid.Parse(s)
	if err != nil || len(s) != 36 || u == uuid.Nil {
		return ID{}, fault.New(fault.InvalidArgument, "a connector id is a UUID of 36 characters")
	}
	return ID{u}, nil
}

// String returns the canonical form, "" for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return id.u.String()
}

// IsZero tells whether this is no connector.
func (id ID) IsZero() bool { return id.u == uuid.Nil }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler through ParseID; empty text is none.
func (id *ID) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*id = ID{}
		return nil
	}
	*id, err = ParseID(string(b))
	return err
}

// Pin names one immutable write of a connector's secrets: the last segment of
// its Vault path, a ULID. The zero Pin means that the connector has no secrets.
type Pin struct{ s string }

// ParsePin accepts a ULID in its canonical upper-case Crockford form.
// Errors: fault.InvalidArgument.
func ParsePin(s string) (Pin, error) {
	if len(s) != 26 || s[0] > '7' {
		return Pin{}, fault.New(fault.InvalidArgument, "a pin is a ULID")
	}
	for i := range len(s) {
		c := s[i]
		ok := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' && c != 'I' && c != 'L' && c != 'O' && c != 'U'
		if !ok {
			return Pin{}, fault.New(fault.InvalidArgument, "a pin is a ULID")
		}
	}
	return Pin{s}, nil
}

// String returns the ULID, "" for the zero Pin.
func (p Pin) String() string { return p.s }

// IsZero tells whether there are no secrets.
func (p Pin) IsZero() bool { return p.s == "" }

// MarshalText implements encoding.TextMarshaler.
func (p Pin) MarshalText() ([]byte, error) { return []byte(p.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler through ParsePin; empty text is none.
func (p *Pin) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*p = Pin{}
		return nil
	}
	*p, err = ParsePin(string(b))
	return err
}

// SecretRef addresses one secret bundle. It is comparable; package vault turns
// it into a path in one function, and nowhere else.
type SecretRef struct {
	Tenant    tenant.ID
	Connector ID
	Pin       Pin
}
