package providers_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

func pointers(err error) (list []string) {
	for _, v := range fault.Violations(err) {
		list = append(list, v.Pointer+" "+v.Code)
	}
	return list
}

// A draft may lack anything, and nothing else is forgiven.
func TestPartialForgivesWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := rich()
	for name, row := range map[string]struct {
		in   providers.Input
		want []string
	}{
		"nothing":            {},
		"required by a rule": {in: providers.Input{Params: map[string]any{"client_id": "c", "port": int64(1)}}},
		"a wrong type":       {in: providers.Input{Params: map[string]any{"count": "many"}}, want: []string{"/params/count type"}},
		"a conflict": {
			in:   providers.Input{Params: map[string]any{"host": "h.example", "url": "https://u.example"}},
			want: []string{"/params/url conflict"},
		},
	} {
		if _, err := s.Decode(row.in, providers.DecodeOptions{}); err == nil {
			t.Errorf("%s: is complete", name)
		}
		_, err := s.Decode(row.in, providers.DecodeOptions{Partial: true})
		if got := pointers(err); !slices.ContainsFunc(got, func(p string) bool { return slices.Contains(row.want, p) }) && len(got)+len(row.want) > 0 {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

func TestGivenKeepsWhatIsInvisible(t *testing.T) {
	t.Parallel()
	s := rich()
	got, err := s.Given(providers.Input{
		Params:  map[string]any{"client": "c", "mode": "none", "count": 3, "note": "", "on": nil},
		Secrets: secret.Map{"key": secret.New("k"), "account_json": {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// client_id is visible in the mode oauth only; no default is filled in.
	if want := map[string]any{"client_id": "c", "mode": "none", "count": int64(3)}; !reflect.DeepEqual(got.Params, want) {
		t.Errorf("%v, want %v", got.Params, want)
	}
	if !slices.Equal(got.Secrets.Names(), []string{"key"}) {
		t.Errorf("secrets %v", got.Secrets.Names())
	}
	_, err = s.Given(providers.Input{Params: map[string]any{"cuont": nil, "count": "many"}, Secrets: secret.Map{"mode": secret.New("x")}})
	if got, want := pointers(err), []string{"/params/count type", "/params/cuont unknown", "/secrets/mode secret_not_wanted"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestScrubbed(t *testing.T) {
	t.Parallel()
	c := providers.Config{Secrets: secret.Map{"key": secret.New("hunter2!")}}
	r := providers.TestReport{Message: "no hunter2!", Steps: []providers.TestStep{{
		Name: "auth hunter2!", Hint: "aHVudGVyMiE=", Fix: &providers.Fix{Label: "use hunter2!", Params: map[string]any{"a": "hunter2!", "b": int64(1)}},
	}}}
	b, err := json.Marshal(r.Scrubbed(c))
	if err != nil {
		t.Fatal(err)
	}
	if text := string(b); strings.Contains(text, "hunter2!") || strings.Contains(text, "aHVudGVyMiE") || strings.Count(text, "[redacted]") != 5 {
		t.Error(text)
	}
	if r.Steps[0].Hint != "aHVudGVyMiE=" || r.Steps[0].Fix.Params["a"] != "hunter2!" {
		t.Error("the report itself was changed")
	}
	if b, _ := json.Marshal(providers.TestReport{}.Scrubbed(c)); !strings.Contains(string(b), `"steps":[]`) {
		t.Errorf("%s", b)
	}
}
