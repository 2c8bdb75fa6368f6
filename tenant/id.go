package tenant

import "github.com/patchbay-dev/patchbay/internal/fault"

// MaxIDLength is the greatest length of a tenant's or organization's id.
const MaxIDLength = 63

// ID names a tenant. It is made by [ParseID] only, so that an ID is always safe
// as a SQL parameter, a Redis key part, a Vault path segment and a log field.
// The zero ID is no tenant. IDs are comparable.
type ID struct{ s string }

// OrganizationID names an organization inside a tenant, by the same grammar.
// The zero OrganizationID means "none": no active organization in an Env, the
// whole tenant on a connector.
type OrganizationID struct{ s string }

// ParseID accepts [a-z0-9][a-z0-9_-]{0,62} and nothing else.
// Errors: fault.InvalidArgument, without the offending text.
func ParseID(s string) (ID, error) {
	if err := checkID(s); err != nil {
		return ID{}, err
	}
	return ID{s}, nil
}

// ParseOrganizationID accepts the grammar of ParseID.
func ParseOrganizationID(s string) (OrganizationID, error) {
	if err := checkID(s); err != nil {
		return OrganizationID{}, err
	}
	return OrganizationID{s}, nil
}

// MustID is ParseID for constants; it panics on a bad one.
func MustID(s string) ID {
	id, err := ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// MustOrganizationID is ParseOrganizationID for constants.
func MustOrganizationID(s string) OrganizationID {
	id, err := ParseOrganizationID(s)
	if err != nil {
		panic(err)
	}
	return id
}

func checkID(s string) error {
	if s == "" {
		return fault.New(fault.InvalidArgument, "an id must not be empty")
	}
	if len(s) > MaxIDLength {
		return fault.New(fault.InvalidArgument, "an id has at most 63 characters")
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '-'):
		default:
			return fault.New(fault.InvalidArgument,
				"an id consists of a-z, 0-9, _ and -, and starts with a letter or digit")
		}
	}
	return nil
}

// String returns the id as text, "" for the zero ID.
func (id ID) String() string { return id.s }

// IsZero tells whether this is no tenant.
func (id ID) IsZero() bool { return id.s == "" }

// Compare orders ids bytewise; transactions on several tenants lock in this order.
func (id ID) Compare(o ID) int {
	switch {
	case id.s < o.s:
		return -1
	case id.s > o.s:
		return 1
	default:
		return 0
	}
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler through ParseID.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// String returns the id as text, "" for none.
func (id OrganizationID) String() string { return id.s }

// IsZero tells whether this is no organization.
func (id OrganizationID) IsZero() bool { return id.s == "" }

// MarshalText implements encoding.TextMarshaler.
func (id OrganizationID) MarshalText() ([]byte, error) { return []byte(id.s), nil }

// UnmarshalText implements encoding.TextUnmarshaler; empty text is none.
func (id *OrganizationID) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*id = OrganizationID{}
		return nil
	}
	*id, err = ParseOrganizationID(string(b))
	return err
}
