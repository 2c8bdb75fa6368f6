package providers_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// decodeOne decodes one param of rich in a config that is valid otherwise and
// returns the canonical value, or the code of the problem.
func decodeOne(name string, value any, text bool) (any, string) {
	in := providers.Input{Params: map[string]any{"mode": "none", "note": "n"}}
	if name == "host" || name == "url" {
		delete(in.Params, "note")
	}
	in.Params[name] = value
	c, err := rich().Decode(in, providers.DecodeOptions{Text: text})
	if err != nil {
		var codes []string
		for _, v := range fault.Violations(err) {
			codes = append(codes, v.Code)
		}
		return nil, strings.Join(codes, " ")
	}
	return c.Params[name], ""
}

func TestValues(t *testing.T) {
	t.Parallel()
	deep := any("x")
	for range 40 {
		deep = []any{deep}
	}
	for _, c := range []struct {
		name string
		text bool
		give any
		want any
		code string
	}{
		{"on", true, "TRUE", true, ""}, {"on", true, "0", false, ""}, {"on", true, "yes", nil, "type"}, {"on", false, "true", nil, "type"},
		{"on", false, 1, nil, "type"}, {"on", true, 1, nil, "type"}, {"on", false, providers.TextValue("1"), true, ""},
		{"count", true, "7", int64(7), ""}, {"count", true, "7.0", nil, "type"}, {"count", true, " 7", nil, "type"},
		{"count", false, 7.0, int64(7), ""}, {"count", false, json.Number("7"), int64(7), ""}, {"count", false, uint64(math.MaxUint64), nil, "type"},
		{"count", true, "99999999999999999999", nil, "type"}, {"count", false, 0, nil, "min"}, {"count", false, 10, nil, "max"},
		{"ratio", true, "1e3", 1000.0, ""}, {"ratio", true, "NaN", nil, "type"}, {"ratio", true, "0x1p4", nil, "type"},
		{"ratio", false, math.Inf(1), nil, "type"}, {"ratio", false, 2, 2.0, ""}, {"ratio", true, "1e999", nil, "type"},
		{"tags", true, `["a","b"]`, []any{"a", "b"}, ""}, {"tags", true, "a,b", nil, "type"}, {"tags", false, []string{"b"}, []any{"b"}, ""},
		{"tags", false, []any{"a", "a"}, nil, "duplicate"}, {"tags", false, []any{"z"}, nil, "enum"},
		{"headers", true, `{"a": 1.0}`, map[string]any{"a": int64(1)}, ""}, {"headers", true, `{"a": 1} x`, nil, "type"}, {"headers", false, []any{}, nil, "type"},
		{"items", false, []any{}, nil, "min_length"}, {"items", false, deep, nil, "depth"}, {"any", false, make(chan int), nil, "type"},
		{"size", false, "32MiB", int64(32 << 20), ""}, {"size", true, "5 kB", int64(5000), ""}, {"size", false, "9999999TiB", nil, "format"}, {"size", false, -1, nil, "format"},
		{"any", false, 1e300, 1e300, ""},
		{"wait", false, "90s", "1m30s", ""}, {"wait", false, "90", nil, "format"}, {"wait", false, "-1s", nil, "format"},
		{"host", false, "::1", "::1", ""}, {"host", false, "[::1]", nil, "format"}, {"host", false, "a_b.example.", "a_b.example.", ""},
		{"host", false, "2130706433", nil, "format"}, {"host", false, "-a", nil, "format"}, {"host", false, "fe80::1%eth0", nil, "format"}, {"host", false, "a..b", nil, "format"},
		{"url", false, "http://h.example", nil, "format"}, {"url", false, "https://h.example:0", nil, "format"}, {"url", false, "https://h.example/#x", nil, "format"},
		{"url", false, "https://[::1]:9000/x", "https://[::1]:9000/x", ""}, {"url", false, "javascript:alert(1)", nil, "format"},
		{"subject", false, "a@b.example", "a@b.example", ""}, {"subject", false, "A <a@b.example>", nil, "format"}, {"subject", false, "a@", nil, "format"},
		{"subject", false, "jörg@exämple.de", "jörg@exämple.de", ""},
		{"upper", false, "ABCDE", nil, "max_length"}, {"upper", false, "abc", nil, "pattern"}, {"upper", false, "A\x00", nil, "control_character"}, {"upper", false, "\xff", nil, "encoding"},
		{"upper", false, "", nil, ""}, {"upper", false, nil, nil, ""}, {"count", true, "", nil, ""}, {"count", false, "", nil, "type"},
		{"hint", false, "x", nil, "unknown"}, {"note", false, "two\nlines\t", "two\nlines\t", ""}, {"note", false, "a\x1b[31m", nil, "control_character"},
	} {
		got, code := decodeOne(c.name, c.give, c.text)
		if code != c.code || code == "" && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s text=%v %.40q: got %#v %q, want %#v %q", c.name, c.text, fmt.Sprint(c.give), got, code, c.want, c.code)
		}
	}
}

func TestHiddenFieldsStayOutOfTheConfig(t *testing.T) {
	t.Parallel()
	s := rich()
	in := providers.Input{
		Params:  map[string]any{"client": "c", "note": "n"},
		Secrets: secret.Map{"key": secret.New("of another mode")},
	}
	c, err := s.Decode(in, providers.DecodeOptions{})
	if err != nil || c.Secrets["key"].IsSet() || c.Params["client_id"] != "c" || c.Params["mode"] != "oauth" {
		t.Errorf("oauth: %v %v %v", c.Params, c.Secrets.Names(), err)
	}
	in.Params["mode"] = "none"
	c, err = s.Decode(in, providers.DecodeOptions{})
	if _, shown := c.Params["client_id"]; err != nil || shown || !c.Secrets["key"].IsSet() {
		t.Errorf("none: %v %v %v", c.Params, c.Secrets.Names(), err)
	}
	in.Params["mode"] = "account"
	_, err = s.Decode(in, providers.DecodeOptions{})
	if got := fmt.Sprint(fault.Violations(err)); got != "[{/params/subject required is required} {/secrets/account_json required is required}]" {
		t.Errorf("account: %s", got)
	}
}

func TestNamesThatNobodyDeclared(t *testing.T) {
	t.Parallel()
	s := rich()
	params := map[string]any{"note": "n", "mode": "none", "a/b~c": 1, strings.Repeat("long", 50): 1, "nul\x00": 1}
	_, err := s.Decode(providers.Input{Params: params}, providers.DecodeOptions{})
	if got := fmt.Sprint(fault.Violations(err)); got != "[{/params unknown is unknown} {/params/a~1b~0c unknown is unknown}]" {
		t.Errorf("got %s", got)
	}
	for i := range 500 {
		params[fmt.Sprintf("p%d", i)] = 1
	}
	_, err = s.Decode(providers.Input{Params: params}, providers.DecodeOptions{})
	if v := fault.Violations(err); len(v) != 101 || v[100].Code != "too_many" {
		t.Errorf("%d problems", len(v))
	}
}

func TestMasksAreRefused(t *testing.T) {
	t.Parallel()
	for _, mask := range []string{"***", "********", "••••", "[redacted]", "<REDACTED>", "(hidden)", "{masked}"} {
		_, err := rich().Decode(providers.Input{Params: map[string]any{"mode": "none", "note": "n"},
			Secrets: secret.Map{"key": secret.New(mask)}}, providers.DecodeOptions{})
		if v := fault.Violations(err); len(v) != 1 || v[0].Code != "masked" {
			t.Errorf("%s: %v", mask, err)
		}
	}
	for _, fine := range []string{"**", "a***", "redacted", "$ENV:LITERAL", "with space "} {
		if _, err := rich().Decode(providers.Input{Params: map[string]any{"mode": "none", "note": "n"},
			Secrets: secret.Map{"key": secret.New(fine)}}, providers.DecodeOptions{}); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	s := schemaOf(t, "s3")
	in, err := s.Split(map[string]any{"bucket": "acme", "access_key": "a", "access_key_id": "b", "secret_key": 5, "session_token": nil, "bukcet": 1})
	if err != nil {
		t.Fatal(err)
	}
	if in.Secrets["access_key_id"].Reveal() != "b" || in.Secrets["session_token"].IsSet() {
		t.Errorf("secrets %v", in.Secrets.Names())
	}
	_, err = s.Decode(in, providers.DecodeOptions{})
	want := `[{/params/access_key conflict is another name of access_key_id, which is given too} ` +
		`{/params/bukcet unknown is unknown; did you mean "bucket"?} ` +
		`{/params/secret_access_key type is a secret and must be text, given under secrets}]`
	if got := fmt.Sprint(fault.Violations(err)); got != want {
		t.Errorf("got %s", got)
	}
}

// A hidden param is not "given", whatever was submitted for it: the rule that
// names it must not fire.
func TestHiddenFieldsBreakNoRule(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{
		"none":  "[]",
		"oauth": "[{/params/ratio conflict can't be given together with client_id}]",
	} {
		_, err := rich().Decode(providers.Input{Params: map[string]any{
			"mode": mode, "client_id": "c", "ratio": 1, "note": "n"}}, providers.DecodeOptions{})
		if got := fmt.Sprint(fault.Violations(err)); got != want {
			t.Errorf("%s: %s", mode, got)
		}
	}
}
