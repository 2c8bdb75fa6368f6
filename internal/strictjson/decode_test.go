package strictjson_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/strictjson"
)

type optional struct {
	Set, Null bool
	Value     string
}

func (o *optional) Target() any       { return &o.Value }
func (o *optional) Present(null bool) { o.Set, o.Null = true, null }

type inner struct {
	Level int64 `json:"level"`
}

type body struct {
	inner
	Name    string         `json:"name"`
	Active  *bool          `json:"active"`
	Owner   optional       `json:"organization_id"`
	Params  map[string]any `json:"params"`
	Secrets secret.Map     `json:"secrets"`
	Tags    []string       `json:"tags"`
	Nested  *inner         `json:"nested"`
	Any     any            `json:"any"`
	hidden  string         //nolint:unused // no member may reach it
}

func near(name string, known []string) string {
	for _, k := range known {
		if strings.HasPrefix(k, name[:1]) {
			return k
		}
	}
	return ""
}

func decode(text string) (body, error) {
	var b body
	err := strictjson.Decode([]byte(text), &b, near)
	return b, err
}

func TestDecode(t *testing.T) {
	t.Parallel()
	b, err := decode(`{"name": "n", "level": 2, "active": false, "organization_id": null, "any": [1, 2.5, null, true],
		"params": {"port": 25, "ratio": 1.0, "list": [{"a/b": "\uFFFD�"}], "none": null}, "secrets": {"p": "s3cr\u00e9t", "q": null}, "tags": ["a"], "nested": {"level": -1}}`)
	if err != nil {
		t.Fatal(err)
	}
	want := body{inner: inner{2}, Name: "n", Owner: optional{Set: true, Null: true}, Tags: []string{"a"}, Nested: &inner{-1},
		Any:    []any{int64(1), 2.5, nil, true},
		Params: map[string]any{"port": int64(25), "ratio": 1.0, "list": []any{map[string]any{"a/b": "\uFFFD\uFFFD"}}, "none": nil}}
	if b.Active == nil || *b.Active {
		t.Error("active")
	}
	if len(b.Secrets) != 2 || !b.Secrets["p"].Equal(secret.New("s3crét")) || b.Secrets["q"].IsSet() {
		t.Errorf("secrets %v", b.Secrets.Names())
	}
	b.Active, b.Secrets = nil, nil
	if !reflect.DeepEqual(b, want) {
		t.Errorf("got %+v", b)
	}
	if b, err := decode(`{"organization_id": "hq"}`); err != nil || b.Owner != (optional{Set: true, Value: "hq"}) || b.Params != nil {
		t.Errorf("%+v %v", b, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	deep := func(n int) string {
		return `{"any":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}"
	}
	for text, want := range map[string]string{
		``:                                        "malformed: the body is empty, and JSON is needed (line 1, column 1)",
		"{\n \"name\": canary}":                   "malformed: the body is not JSON (line 2, column 10)",
		`{"name": "canary`:                        "malformed: the body ends within its JSON value (line 1, column 10)",
		`{"name": "canary"} {}`:                   "malformed: the body has something after its JSON value (line 1, column 21)",
		`{"name": "canary",}`:                     "malformed: the body is not JSON (line 1, column 19)",
		`{'name': 'canary'}`:                      "malformed: the body is not JSON (line 1, column 2)",
		"{\"name\": \"\xff\"}":                    "malformed: the body is not UTF-8 text",
		`{"name": "\ud800"}`:                      "malformed: the body has half of a surrogate pair in a text, which is no Unicode",
		`{"secrets": {"p": "\udc00x"}}`:           "malformed: the body has half of a surrogate pair in a text, which is no Unicode",
		`{"name": "\\ufffd \ud800"}`:              "malformed: the body has half of a surrogate pair in a text, which is no Unicode",
		deep(strictjson.MaxDepth + 1):             "malformed: the body is nested deeper than 32 levels (line 1, column 40)",
		strings.Repeat("[", 1<<20):                "malformed: the body is nested deeper than 32 levels (line 1, column 34)",
		`[]`:                                      "invalid_argument: type",
		`null`:                                    "invalid_argument: type",
		`{"nam": "canary"}`:                       `invalid_argument:/nam unknown is unknown; did you mean "name"?`,
		`{"zzz": 1, "hidden": 1}`:                 "invalid_argument:/hidden unknown is unknown /zzz unknown is unknown",
		`{"Name": "n"}`:                           "invalid_argument:/Name unknown is unknown",
		`{"name": "canary", "name": ""}`:          "invalid_argument:/name duplicate is given twice",
		`{"params": {"a/~": 1, "a/~": 2}}`:        "invalid_argument:/params/a~1~0 duplicate is given twice",
		`{"any": 1e999}`:                          "invalid_argument:/any range is a number that is too large",
		`{"any": [12345678901234567890]}`:         "invalid_argument:/any/0 range is a number that is too large",
		`{"name": null}`:                          "invalid_argument:/name type must be a text",
		`{"name": 7}`:                             "invalid_argument:/name type must be a text",
		`{"active": "true"}`:                      "invalid_argument:/active type must be true or false",
		`{"active": null}`:                        "invalid_argument:/active type must be true or false",
		`{"level": 1.5}`:                          "invalid_argument:/level type must be a whole number",
		`{"organization_id": 5}`:                  "invalid_argument:/organization_id type must be a text",
		`{"params": []}`:                          "invalid_argument:/params type must be an object",
		`{"params": null}`:                        "invalid_argument:/params type must be an object",
		`{"secrets": null}`:                       "invalid_argument:/secrets type must be an object",
		`{"secrets": {"p": 12, "q": ["canary"]}}`: "invalid_argument:/secrets/p type must be a text, or null to clear it /secrets/q type must be a text, or null to clear it",
		`{"tags": ["a", 1]}`:                      "invalid_argument:/tags/1 type must be a text",
		`{"tags": {}}`:                            "invalid_argument:/tags type must be a list",
		`{"nested": {"level": "canary", "x": 1}}`: "invalid_argument:/nested/level type must be a whole number /nested/x unknown is unknown",
	} {
		_, err := decode(text)
		got := string(fault.CodeOf(err)) + ":"
		if vs := fault.Violations(err); len(vs) > 0 {
			for i, v := range vs {
				if i > 0 {
					got += " "
				}
				got += v.Pointer + " " + v.Code
				if v.Pointer != "" {
					got += " " + v.Message
				}
			}
		} else {
			got += " " + fault.Message(err)
		}
		if got != want {
			t.Errorf("%.60s:\n got %s\nwant %s", text, got, want)
		}
		if strings.Contains(fmt.Sprint(err, fault.Violations(err)), "canary") {
			t.Errorf("%s repeats the body: %v", text, err)
		}
	}
	if _, err := decode(deep(strictjson.MaxDepth)); err != nil {
		t.Errorf("%d levels: %v", strictjson.MaxDepth, err)
	}
}

// Whatever comes in, nothing panics, and what is taken decodes again to the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a": [1, 2.5, "\ud83d\ude00", null], "b": {"c": "\\ufffd"}}`))
	f.Add([]byte(`{"a":"\ud800"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := strictjson.Parse(in)
		if err != nil {
			if code := fault.CodeOf(err); code != fault.Malformed && code != fault.InvalidArgument {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := strictjson.Parse(in)
		if err != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("%v %v", again, err)
		}
	})
}
