package change

import (
	"encoding/json"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// CheckClaim tells whether a request can be claimed.
// Errors: fault.InvalidArgument.
func CheckClaim(c connector.Claim) error {
	if c.Actor == "" || c.Token == "" {
		return fault.New(fault.InvalidArgument, "a claim names an actor and itself")
	}
	return nil
}

// ClaimText is what a row holds while a request is claimed.
func ClaimText(c connector.Claim) (string, error) {
	b, err := json.Marshal(map[string]string{"claim": c.Token})
	return string(b), err
}

// IsClaim tells whether a row's text is the claim's own.
func IsClaim(text string, c connector.Claim) bool {
	var held struct {
		Claim string `json:"claim"`
	}
	return json.Unmarshal([]byte(text), &held) == nil && held.Claim == c.Token
}

// AnotherRequest is the refusal of a key under which something else was asked.
func AnotherRequest() error {
	return fault.New(fault.InvalidArgument, "the idempotency key stands for another request").
		WithViolations(fault.Violation{Pointer: "/header/Idempotency-Key", Code: "reused", Message: "was used for another request; take a new one"})
}

// CheckSettled tells whether a change of t can settle a claim.
// Errors: fault.InvalidArgument.
func CheckSettled(c connector.Claim, t tenant.ID) error {
	if !c.Tenant.IsZero() && c.Tenant != t {
		return fault.New(fault.InvalidArgument, "the claim is of another tenant")
	}
	return nil
}

// ClaimLost is what becomes of a write whose claim was taken over.
func ClaimLost() error {
	return fault.New(fault.Conflict, "the request took too long, and another one under the same key was begun")
}

// NoConsent is a consent that nobody waits for.
func NoConsent() error {
	return fault.New(fault.NotFound, "there is no such consent under way: it has ended, or was used before")
}

// minRetention is what the wall under the audit keeps whatever is asked.
const minRetention = 30 * 24 * time.Hour

// CheckRetention tells whether audit entries older than age may go.
// Errors: fault.InvalidArgument.
func CheckRetention(age time.Duration) error {
	if age < minRetention {
		return fault.New(fault.InvalidArgument, "audit entries are kept for 30 days at least")
	}
	return nil
}
