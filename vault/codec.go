package vault

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// stored is the JSON that every store keeps, for bundles and grants alike.
type stored struct {
	Values   map[string]string `json:"values"`
	Imported map[string]string `json:"imported,omitempty"`
}

// Encode serialises b for a store. Values that are not set are left out.
// Errors: fault.InvalidArgument for a name or value that isn't UTF-8, because
// JSON would replace its bytes in silence.
func Encode(b Bundle) (secret.Body, error) {
	s := stored{Values: make(map[string]string, len(b.Values)), Imported: b.Imported}
	for name, v := range b.Values {
		if !v.IsSet() {
			continue
		}
		s.Values[name] = v.Reveal()
		if !utf8.ValidString(name) || !utf8.ValidString(s.Values[name]) {
			return secret.Body{}, fault.New(fault.InvalidArgument, "a secret must be valid UTF-8; encode binary ones as base64")
		}
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return secret.Body{}, fault.New(fault.Internal, "a bundle could not be serialised")
	}
	return secret.NewBody(raw), nil
}

// Decode is the inverse of Encode.
// Errors: fault.Unavailable, without the parser's text, which quotes its input.
func Decode(b secret.Body) (Bundle, error) {
	var s stored
	if err := json.Unmarshal(b.Reveal(), &s); err != nil || s.Values == nil {
		return Bundle{}, fault.New(fault.Unavailable, "what the secret store holds is not a bundle")
	}
	out := Bundle{Values: make(secret.Map, len(s.Values)), Imported: s.Imported}
	for name, v := range s.Values {
		out.Values[name] = secret.New(v)
	}
	return out, nil
}
