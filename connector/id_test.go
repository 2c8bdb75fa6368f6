package connector_test

import (
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

const canonical = "0198c0de-abcd-7000-8000-00000000000f"

// One id has one spelling inside, whatever the caller's: nothing can be stored
// under two.
func TestParseID(t *testing.T) {
	t.Parallel()
	for _, text := range []string{canonical, strings.ToUpper(canonical), "0198C0de-aBcD-7000-8000-00000000000F"} {
		id, err := connector.ParseID(text)
		if err != nil || id.String() != canonical {
			t.Errorf("%s: %s, %v", text, id, err)
		}
		var again connector.ID
		if err := again.UnmarshalText([]byte(text)); err != nil || again != id {
			t.Errorf("%s as text: %s, %v", text, again, err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "a number": "42", "braces": "{" + canonical + "}", "URN": "urn:uuid:" + canonical,
		"no dashes": strings.ReplaceAll(canonical, "-", ""), "a dash moved": "0198c0d-eabcd-7000-8000-00000000000f",
		"no hex": strings.Replace(canonical, "f", "g", 1), "one more": canonical + "0", "a space": canonical[:35] + " ",
		"nil": "00000000-0000-0000-0000-000000000000", "full-width": strings.Replace(canonical, "0", "\uff10", 1),
	} {
		if id, err := connector.ParseID(text); fault.CodeOf(err) != fault.InvalidArgument || !id.IsZero() {
			t.Errorf("%s: %s, %v", name, id, err)
		}
	}
}

// It is on the path of a hit.
func TestParseIDAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = connector.ParseID(canonical) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
