package vault

import (
	"crypto/rand"

	"github.com/oklog/ulid/v2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// NewPin returns a fresh pin: a ULID of now with 80 random bits from the
// operating system. Pins of one millisecond are unordered among themselves;
// nothing may rely on more than their uniqueness.
func NewPin() connector.Pin {
	p, err := connector.ParsePin(ulid.MustNew(ulid.Now(), rand.Reader).String())
	if err != nil {
		// Unreachable: a ULID of this millennium is a pin. A zero pin would
		// mean "no secrets", so it may not slip through.
		panic(fault.New(fault.Internal, "a fresh pin is malformed"))
	}
	return p
}
