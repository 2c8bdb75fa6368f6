package providers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// pool has good and bad values of each param of rich. Empty text and null are
// left out: JSON Schema has no "counts as not given".
var pool = map[string][]any{
	"mode": {"oauth", "account", "none", "other", 1}, "client_id": {"c", 1}, "subject": {"a@b.example", 7},
	"note": {"two\nlines", false}, "count": {1, 9, 0, 10, 1.5, "1"}, "ratio": {1, 0.5, "0.5"}, "on": {true, "true", 1},
	"tags": {[]any{}, []any{"a", "b"}, []any{"a", "a"}, []any{"c"}, "a"}, "url": {"https://h.example/p", 1},
	"host": {"h.example", 1}, "port": {1, 65535, 0, 65536, "25"}, "wait": {"1m0s", 5}, "size": {5, -1, true},
	"any": {1, "x", []any{}, map[string]any{"a": 1}}, "headers": {map[string]any{"a": "b"}, []any{}, map[string]any{"a": 1, "b": 2, "c": 3}},
	"items": {[]any{1}, []any{}, "x"}, "upper": {"ABC", "abc", "ABCDE"}, "unknown": {1},
}

var secretPool = map[string][]string{
	"key": {"sesame-1"}, "account_json": {`{"a":1}`}, "other": {"x"},
}

func drawInput(t *rapid.T) providers.Input {
	in := providers.Input{Params: map[string]any{}, Secrets: secret.Map{}}
	for _, name := range []string{"mode", "client_id", "subject", "note", "count", "ratio", "on", "tags", "url", "host",
		"port", "wait", "size", "any", "headers", "items", "upper", "unknown"} {
		// Good values come first in the pool; a rare bad one keeps many inputs valid.
		if rapid.IntRange(0, 2).Draw(t, name+"?") == 0 {
			values := pool[name]
			if name == "unknown" || rapid.IntRange(0, 4).Draw(t, name+" good") > 0 {
				values = values[:1]
			}
			if name != "unknown" || rapid.IntRange(0, 9).Draw(t, "rare") == 0 {
				in.Params[name] = rapid.SampledFrom(values).Draw(t, name)
			}
		}
	}
	for _, name := range []string{"key", "account_json", "other"} {
		if rapid.IntRange(0, 3).Draw(t, name+"?") == 0 && (name != "other" || rapid.Bool().Draw(t, "rare")) {
			in.Secrets[name] = secret.New(rapid.SampledFrom(secretPool[name]).Draw(t, name))
		}
	}
	return in
}

// What Decode accepts the JSON Schema accepts, and the reverse: two
// implementations of the same conditions and rules.
func TestJSONSchemaAgreesWithDecode(t *testing.T) {
	t.Parallel()
	s := rich()
	compiled := providertest.Compile(t, s)
	accepted, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		in := drawInput(rt)
		secrets := map[string]string{}
		for name, v := range in.Secrets {
			secrets[name] = v.Reveal()
		}
		b, err := json.Marshal(map[string]any{"params": in.Params, "secrets": secrets})
		if err != nil {
			rt.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			rt.Fatal(err)
		}
		_, decodeErr := s.Decode(in, providers.DecodeOptions{})
		schemaErr := compiled.Validate(doc)
		if (decodeErr == nil) != (schemaErr == nil) {
			rt.Fatalf("%s\ndecode: %v\nschema: %v", b, decodeErr, schemaErr)
		}
		if decodeErr == nil {
			accepted++
		} else {
			refused++
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted, %d refused: the draw proves nothing", accepted, refused)
	}
}

// Decode of its own output changes nothing, also after a trip through JSON as
// stores make it; its problems come in the same order each time.
func TestDecodeIsIdempotent(t *testing.T) {
	t.Parallel()
	s := rich()
	rapid.Check(t, func(rt *rapid.T) {
		in := drawInput(rt)
		c, err := s.Decode(in, providers.DecodeOptions{})
		if err != nil {
			_, again := s.Decode(in, providers.DecodeOptions{})
			if !slices.Equal(fault.Violations(err), fault.Violations(again)) {
				rt.Fatal("the problems differ from one time to the next")
			}
			return
		}
		b, err := json.Marshal(c.Params)
		if err != nil {
			rt.Fatal(err)
		}
		var stored map[string]any
		if err := json.Unmarshal(b, &stored); err != nil {
			rt.Fatal(err)
		}
		for _, params := range []map[string]any{c.Params, stored} {
			again, err := s.Decode(providers.Input{Params: params, Secrets: c.Secrets}, providers.DecodeOptions{})
			if err != nil || !reflect.DeepEqual(again.Params, c.Params) || !again.Secrets.Equal(c.Secrets) {
				rt.Fatalf("%v became %v, %v", c.Params, again.Params, err)
			}
		}
	})
}

// Whatever is submitted, Decode neither panics nor repeats it, and text mode
// accepts nothing that it then can't decode strictly.
func FuzzDecode(f *testing.F) {
	f.Add("count", "7", "key", "sesame")
	f.Add("size", "32MiB", "count", "x")
	f.Add("url", "https://user:pw@host", "account_json", "{")
	f.Add("any", `{"a":[1,1.5,null]}`, "", "****")
	f.Add("host", "[::1]", "mode", "\x00")
	s := rich()
	f.Fuzz(func(t *testing.T, name, value, secretName, secretValue string) {
		const canary = "zq7canary"
		in := providers.Input{
			Params:  map[string]any{name: value + canary, "count": value},
			Secrets: secret.Map{secretName: secret.New(secretValue + canary)},
		}
		for _, text := range []bool{true, false} {
			c, err := s.Decode(in, providers.DecodeOptions{Text: text})
			if err != nil {
				if strings.Contains(fmt.Sprintf("%v %v", err, fault.Violations(err)), canary) {
					t.Fatal("the error repeats a value")
				}
				continue
			}
			if _, err := s.Decode(providers.Input{Params: c.Params, Secrets: c.Secrets}, providers.DecodeOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		in.Params = map[string]any{name: value, "mode": "none", "note": "n"}
		in.Secrets = nil
		if c, err := s.Decode(in, providers.DecodeOptions{Text: true}); err == nil {
			if _, err := s.Decode(providers.Input{Params: c.Params}, providers.DecodeOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
