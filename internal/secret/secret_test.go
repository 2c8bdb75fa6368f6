package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

const canary = "canary-41f7c2d9"

// traces are the forms in which fmt could spell the canary: as text, as hex in
// both cases, and as the decimal, octal or binary numbers of its first bytes.
var traces = []string{
	canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary), fmt.Sprintf("% X", canary),
	"99 97 110 97", "99, 97, 110, 97", "143 141 156", "1100011 1100001", "0x63, 0x61", "U+0063", "'c' 'a'",
}

func leak(text string) bool {
	for _, trace := range traces {
		if strings.Contains(text, trace) {
			return true
		}
	}
	return false
}

// holder stands for a foreign struct: fmt reads unexported fields by reflection
// and can't call their methods.
type holder struct {
	Value  secret.Value
	Map    secret.Map
	Body   secret.Body
	value  secret.Value
	fields secret.Map
	body   secret.Body
	values []secret.Value
	ptr    *secret.Value
	any    any
}

func held() holder {
	v := secret.New(canary)
	m := secret.Map{"password": v}
	b := secret.NewBody([]byte(canary))
	return holder{Value: v, Map: m, Body: b, value: v, fields: m, body: b, values: []secret.Value{v}, ptr: &v, any: b}
}

// forms are all shapes in which a secret may reach a printer.
func forms() map[string]any {
	h := held()
	return map[string]any{
		"Value": h.Value, "*Value": &h.Value, "[]Value": h.values, "map of Value": map[string]secret.Value{"x": h.Value},
		"Map": h.Map, "*Map": &h.Map, "[]Map": []secret.Map{h.Map},
		"Body": h.Body, "*Body": &h.Body, "[]Body": []secret.Body{h.Body},
		"struct": h, "*struct": &h, "[]struct": []holder{h}, "any": []any{h.Value, h.Body, h.Map},
		"error": fmt.Errorf("log in with %v: %w", h.Value, errors.New("refused")),
	}
}

func TestNoVerbShowsASecret(t *testing.T) {
	t.Parallel()
	for name, v := range forms() {
		for verb := '!'; verb <= '~'; verb++ {
			for _, flags := range []string{"", "+", "#", " ", "-40", "040", ".3", "+#", "# ", "[1]"} {
				format := "%" + flags + string(verb)
				if text := fmt.Sprintf(format, v); leak(text) {
					t.Errorf("%s under %s: %s", name, format, text)
				}
			}
		}
		if text := fmt.Sprint(v) + fmt.Sprintln(v); leak(text) {
			t.Errorf("%s printed: %s", name, text)
		}
	}
}

func TestNoEncodingHoldsASecret(t *testing.T) {
	t.Parallel()
	for name, v := range forms() {
		if raw, err := json.Marshal(v); err != nil || leak(string(raw)) {
			t.Errorf("%s as JSON: %s, %v", name, raw, err)
		}
		if raw, err := json.Marshal(map[string]any{"x": v}); err != nil || leak(string(raw)) {
			t.Errorf("%s inside JSON: %s, %v", name, raw, err)
		}
		// Neither takes every shape; what they refuse can't leak.
		if raw, err := xml.Marshal(v); err == nil && leak(string(raw)) {
			t.Errorf("%s as XML: %s", name, raw)
		}
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(v); err == nil && leak(b.String()) {
			t.Errorf("%s as gob: %q", name, b.String())
		}
	}
	if raw, err := json.Marshal(map[secret.Value]int{secret.New(canary): 1}); err != nil || leak(string(raw)) {
		t.Errorf("as a key of JSON: %s, %v", raw, err)
	}
}

func TestNoLogHoldsASecret(t *testing.T) {
	t.Parallel()
	for name, v := range forms() {
		for handler, open := range map[string]func(*bytes.Buffer) slog.Handler{
			"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
			"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(open(&b)).With("held", v).Info("x", "given", v, slog.Group("g", "deep", v))
			if leak(b.String()) {
				t.Errorf("%s in a %s log: %s", name, handler, b.String())
			}
		}
	}
}

func TestWhatIsPrintedInstead(t *testing.T) {
	t.Parallel()
	v, m, b := secret.New(canary), secret.Map{"password": secret.New(canary), "key": secret.New("x")}, secret.NewBody([]byte(canary))
	for name, got := range map[string]string{
		"Value":    v.String(),
		"unset":    secret.Value{}.String(), // whether it is set is nobody's business either
		"Body":     b.String(),
		"GoString": v.GoString(),
		"%d":       fmt.Sprintf("%d", v),
		"%#v":      fmt.Sprintf("%#v", b),
		"LogValue": v.LogValue().String(),
	} {
		if got != secret.Redacted {
			t.Errorf("%s prints as %q", name, got)
		}
	}
	// Names are config, not secrets: they tell the operator which are there.
	for name, got := range map[string]string{
		"String": m.String(), "GoString": m.GoString(), "%v": fmt.Sprintf("%v", m), "%x": fmt.Sprintf("%x", m), "LogValue": m.LogValue().String(),
	} {
		if want := secret.Redacted + "[key password]"; got != want {
			t.Errorf("Map under %s prints as %q, want %q", name, got, want)
		}
	}
	for name, marshal := range map[string]func() ([]byte, error){
		"Value text": v.MarshalText, "Value binary": v.MarshalBinary, "Body text": b.MarshalText, "Body binary": b.MarshalBinary,
	} {
		if raw, err := marshal(); err != nil || string(raw) != secret.Redacted {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
	for name, x := range map[string]json.Marshaler{"Value": v, "Map": m, "Body": b} {
		if raw, err := x.MarshalJSON(); err != nil || string(raw) != `"`+secret.Redacted+`"` {
			t.Errorf("%s as JSON: %s, %v", name, raw, err)
		}
	}
}

func TestRevealIsTheWayOut(t *testing.T) {
	t.Parallel()
	if got := secret.New(canary).Reveal(); got != canary {
		t.Errorf("Value: %q", got)
	}
	if got := secret.NewBody([]byte(canary)).Reveal(); string(got) != canary {
		t.Errorf("Body: %q", got)
	}
	if (secret.Value{}).Reveal() != "" || (secret.Body{}).Reveal() != nil || (secret.Body{}).Len() != 0 {
		t.Error("a zero secret has content")
	}
}

func TestUnsetIsNotEmpty(t *testing.T) {
	t.Parallel()
	unset, empty, other := secret.Value{}, secret.New(""), secret.New("x")
	if unset.IsSet() || !empty.IsSet() || unset.Len() != 0 || empty.Len() != 0 || other.Len() != 1 {
		t.Error("unset and empty are mixed up")
	}
	for _, row := range []struct {
		name string
		a, b secret.Value
		want bool
	}{
		{"both unset", unset, secret.Value{}, true},
		{"unset, empty", unset, empty, false},
		{"empty, unset", empty, unset, false},
		{"both empty", empty, secret.New(""), true},
		{"same text", other, secret.New("x"), true},
		{"other text", other, secret.New("y"), false},
		{"prefix", other, secret.New("xy"), false},
	} {
		if row.a.Equal(row.b) != row.want {
			t.Errorf("%s: equal is %v", row.name, !row.want)
		}
	}
}

func TestMaps(t *testing.T) {
	t.Parallel()
	m := secret.Map{"a": secret.New("12"), "bc": secret.New("345")}
	c := m.Clone()
	if !c.Equal(m) || m.Size() != 8 || fmt.Sprint(m.Names()) != "[a bc]" {
		t.Errorf("%v, %d, %v", c.Equal(m), m.Size(), m.Names())
	}
	c["a"] = secret.New("21")
	if c.Equal(m) || m["a"].Reveal() != "12" {
		t.Error("a clone shares its values")
	}
	delete(c, "a")
	if c.Equal(m) || m.Equal(c) || secret.Map(nil).Clone() != nil || !secret.Map(nil).Equal(secret.Map{}) {
		t.Error("maps of other names are equal")
	}
}
