package resolver

import (
	"encoding/binary"
	"slices"

	"github.com/maypok86/otter/v2"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

type otterOp = otter.ComputeOp

const (
	otterCancel     = otter.CancelOp
	otterWrite      = otter.WriteOp
	otterInvalidate = otter.InvalidateOp
)

// pack writes a bundle as one piece of memory: length and bytes of each name and
// value in turn. As a map of values it would take four times as much, for as
// long as a tenant is hot.
func pack(m secret.Map) secret.Body {
	n := 0
	for name, v := range m {
		n += len(name) + v.Len() + 2*binary.MaxVarintLen32
	}
	out := make([]byte, 0, n)
	piece := func(s string) {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	for _, name := range m.Names() {
		piece(name)
		piece(m[name].Reveal())
	}
	return secret.NewBody(slices.Clone(out)) // of its exact size
}

// unpack is the bundle that pack wrote.
func unpack(b secret.Body) secret.Map {
	m, raw := make(secret.Map), b.Reveal()
	piece := func() string {
		n, width := binary.Uvarint(raw)
		s := string(raw[width : width+int(n)])
		raw = raw[width+int(n):]
		return s
	}
	for len(raw) > 0 {
		name := piece()
		m[name] = secret.New(piece())
	}
	return m
}
