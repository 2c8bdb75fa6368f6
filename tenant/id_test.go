package tenant_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

func TestIDGrammar(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"one letter":           {"a", true},
		"one digit":            {"7", true},
		"every kind":           {"a0_-", true},
		"63 characters":        {strings.Repeat("a", 63), true},
		"64 characters":        {strings.Repeat("a", 64), false},
		"empty":                {"", false},
		"a dash first":         {"-a", false},
		"an underscore first":  {"_a", false},
		"upper case":           {"Acme", false},
		"upper case within":    {"acMe", false},
		"a path":               {"../x", false},
		"a dot":                {"a.b", false},
		"a slash":              {"a/b", false},
		"a colon":              {"a:b", false},
		"a brace":              {"a}b", false},
		"a percent sign":       {"a%2f", false},
		"a star":               {"*", false},
		"a space after":        {"a ", false},
		"a newline after":      {"a\n", false},
		"NUL":                  {"a\x00", false},
		"not ASCII":            {"ä", false},
		"a digit of elsewhere": {"a٣", false},
		"the long s":           {"ſ", false}, // folds to s
		"broken UTF-8":         {"a\xff", false},
	} {
		id, err := tenant.ParseID(c.text)
		org, orgErr := tenant.ParseOrganizationID(c.text)
		if (err == nil) != c.ok || (orgErr == nil) != c.ok {
			t.Errorf("%s: %v, %v", name, err, orgErr)
			continue
		}
		if c.ok && (id.String() != c.text || org.String() != c.text || id.IsZero() || org.IsZero()) {
			t.Errorf("%s: became %q and %q", name, id, org)
		}
		if !c.ok {
			if fault.CodeOf(err) != fault.InvalidArgument || !id.IsZero() || !org.IsZero() {
				t.Errorf("%s: %v leaves %q and %q", name, err, id, org)
			}
			if len(c.text) > 3 && strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: the error repeats the text", name)
			}
		}
	}
}

// TestIDAsText: decoding goes through the one parser too.
func TestIDAsText(t *testing.T) {
	t.Parallel()
	type pair struct {
		T tenant.ID
		O tenant.OrganizationID
	}
	for _, in := range []pair{
		{tenant.MustID("acme"), tenant.MustOrganizationID("hq")},
		{tenant.MustID("acme"), tenant.OrganizationID{}}, // none
	} {
		raw, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out pair
		if err := json.Unmarshal(raw, &out); err != nil || out != in {
			t.Errorf("%s became %v: %v", raw, out, err)
		}
	}
	for _, raw := range []string{`{"T":""}`, `{"T":"../x"}`, `{"O":"HQ"}`} {
		var out pair
		if err := json.Unmarshal([]byte(raw), &out); err == nil || out != (pair{}) {
			t.Errorf("%s became %v", raw, out)
		}
	}
}

func TestIDOrder(t *testing.T) {
	t.Parallel()
	ids := []tenant.ID{tenant.MustID("b"), tenant.MustID("a"), tenant.MustID("a-"), tenant.MustID("a_"), tenant.MustID("a0"), tenant.MustID("a")}
	slices.SortFunc(ids, tenant.ID.Compare)
	if got := strings.Join([]string{ids[0].String(), ids[1].String(), ids[2].String(), ids[3].String(), ids[4].String(), ids[5].String()}, " "); got != "a a a- a0 a_ b" {
		t.Error(got)
	}
}

func TestMustPanics(t *testing.T) {
	t.Parallel()
	for _, f := range []func(){func() { tenant.MustID("../x") }, func() { tenant.MustOrganizationID("") }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a bad constant was accepted")
				}
			}()
			f()
		}()
	}
}
