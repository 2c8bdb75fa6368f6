package change

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/tenant"
)

func text() *rapid.Generator[string] {
	return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "\x00", "\xff", "1.0", "null", "\u2028<&>"}))
}

func canonicalValue(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		text().AsAny(), rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Float64().AsAny(),
		rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, 1e300, 5e-324, 1 << 53}).AsAny(),
	}
	if depth > 0 {
		kinds = append(kinds, rapid.SliceOfN(canonicalValue(depth-1), 0, 4).AsAny(),
			rapid.MapOfN(text(), canonicalValue(depth-1), 0, 4).AsAny())
	}
	return rapid.OneOf(kinds...)
}

// storable tells whether v may be refused, by a definition of its own.
func storable(v any) bool {
	switch v := v.(type) {
	case string:
		return utf8.ValidString(v) && !strings.Contains(v, "\x00")
	case float64:
		return !math.IsNaN(v) && !math.IsInf(v, 0)
	case []any:
		for _, e := range v {
			if !storable(e) {
				return false
			}
		}
	case map[string]any:
		for k, e := range v {
			if !storable(k) || !storable(e) {
				return false
			}
		}
	}
	return true
}

// A value comes back with its very type or is refused, and its spelling is JSON
// that jsonb keeps as it is.
func TestValuesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := canonicalValue(3).Draw(t, "value")
		encoded, err := EncodeValue(v)
		if (err == nil) != storable(v) {
			t.Fatalf("%#v: %v", v, err)
		}
		if err != nil {
			return
		}
		if !json.Valid([]byte(encoded)) {
			t.Fatalf("%#v became %s", v, encoded)
		}
		back, err := DecodeValue(encoded)
		if err != nil || !reflect.DeepEqual(back, v) { // == on floats: -0 is 0
			t.Fatalf("%#v became %s became %#v: %v", v, encoded, back, err)
		}
		again, err := EncodeValue(back)
		if err != nil || again != encoded {
			t.Fatalf("%s, then %s: %v", encoded, again, err)
		}
	})
}

func TestRecordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := canonicalValue(2).Filter(storable).Draw(t, "value")
		c := connector.Connector{
			ID: connector.NewID(), ExternalID: rapid.SampledFrom([]string{"", "x.y"}).Draw(t, "external id"), Name: "n",
			Category: "storage", Kind: "s3", SchemaVersion: 2, State: connector.StateDraft, Active: true, Version: 3,
			Organization: tenant.MustOrganizationID("hq"), CreatedAt: instant(1), UpdatedAt: instant(2),
			DeletedAt: instant(rapid.Int64Range(1, 1e15).Draw(t, "deleted")),
			LastTest:  json.RawMessage(`{"ok":  true}`),
			Params: map[string]connector.Param{
				"p": {Value: v, Writer: connector.WriterAPI, UpdatedAt: instant(4)},
				"q": {Value: "x", Imported: v, Writer: connector.WriterImport, UpdatedAt: instant(5)},
			},
			Secrets: map[string]connector.SecretInfo{"s": {Version: 7, Writer: connector.WriterAPI, UpdatedAt: instant(6)}},
		}
		if err := Check(&c); err == nil {
			t.Fatal("secrets without a pin")
		}
		c.Pin, _ = connector.ParsePin("01ARZ3NDEKTSV4RRFFQ69G5FAV")
		if err := Check(&c); err != nil {
			t.Fatal(err)
		}
		encoded, err := EncodeRecord(&c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeRecord(encoded)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%s\n%+v\n%+v: %v", encoded, back, c, err)
		}
	})
}
