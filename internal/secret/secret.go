package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
)

// Redacted is what every secret prints as.
const Redacted = "[redacted]"

// Value is one secret string. The zero Value is "not set", which differs from
// a set but empty one. Values are immutable and safe for concurrent use.
//
// p must not lead to a struct, slice, array or map: under a verb that doesn't
// fit a pointer (a "%s" for a struct that holds a Value in an unexported field)
// fmt prints what such a pointer leads to, and calls no method on the way. It
// prints the address of all others.
type Value struct{ p *string }

// New returns a set Value.
func New(s string) Value { return Value{p: &s} }

// IsSet tells a set Value (even an empty one) from the zero one.
func (v Value) IsSet() bool { return v.p != nil }

// Len is the length in bytes; 0 when not set.
func (v Value) Len() int {
	if v.p == nil {
		return 0
	}
	return len(*v.p)
}

// Reveal returns the content. Every call site is on the reviewed list of
// internal/arch/reveal_test.go.
func (v Value) Reveal() string {
	if v.p == nil {
		return ""
	}
	return *v.p
}

// Equal compares in time that depends on the lengths only.
func (v Value) Equal(w Value) bool {
	if v.IsSet() != w.IsSet() {
		return false
	}
	if v.p == nil {
		return true
	}
	return subtle.ConstantTimeCompare([]byte(*v.p), []byte(*w.p)) == 1
}

func (v Value) String() string                 { return Redacted }
func (v Value) GoString() string               { return Redacted }
func (v Value) Format(f fmt.State, _ rune)     { _, _ = io.WriteString(f, Redacted) }
func (v Value) MarshalJSON() ([]byte, error)   { return []byte(`"` + Redacted + `"`), nil }
func (v Value) MarshalText() ([]byte, error)   { return []byte(Redacted), nil }
func (v Value) MarshalBinary() ([]byte, error) { return []byte(Redacted), nil }
func (v Value) LogValue() slog.Value           { return slog.StringValue(Redacted) }

// Map is a set of named secrets. It prints its names, never a value.
type Map map[string]Value

// Names returns the names, sorted.
func (m Map) Names() []string { return slices.Sorted(maps.Keys(m)) }

// Clone returns a copy; nil stays nil.
func (m Map) Clone() Map { return maps.Clone(m) }

// Equal tells whether both hold the same names with the same values.
func (m Map) Equal(o Map) bool {
	return maps.EqualFunc(m, o, func(a, b Value) bool { return a.Equal(b) })
}

// Size is the number of bytes of all names and values, for memory bounds.
func (m Map) Size() int {
	n := 0
	for k, v := range m {
		n += len(k) + v.Len()
	}
	return n
}

func (m Map) String() string               { return fmt.Sprintf("%s%v", Redacted, m.Names()) }
func (m Map) GoString() string             { return m.String() }
func (m Map) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, m.String()) }
func (m Map) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }
func (m Map) LogValue() slog.Value         { return slog.StringValue(m.String()) }

// Body is a serialised answer that contains secrets. Holders must not modify
// the bytes that Reveal returns. The pointer is doubled for the reason at Value.
type Body struct{ p **[]byte }

// NewBody takes ownership of b.
func NewBody(b []byte) Body {
	p := &b
	return Body{p: &p}
}

// Len is the length in bytes.
func (b Body) Len() int {
	if b.p == nil {
		return 0
	}
	return len(**b.p)
}

// Reveal returns the bytes, for the one function that writes them to a client.
func (b Body) Reveal() []byte {
	if b.p == nil {
		return nil
	}
	return **b.p
}

func (b Body) String() string                 { return Redacted }
func (b Body) GoString() string               { return Redacted }
func (b Body) Format(f fmt.State, _ rune)     { _, _ = io.WriteString(f, Redacted) }
func (b Body) MarshalJSON() ([]byte, error)   { return []byte(`"` + Redacted + `"`), nil }
func (b Body) MarshalText() ([]byte, error)   { return []byte(Redacted), nil }
func (b Body) MarshalBinary() ([]byte, error) { return []byte(Redacted), nil }
func (b Body) LogValue() slog.Value           { return slog.StringValue(Redacted) }
