package change

import (
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ query, regexp, glob string }{
		{"a1", "[aA][1]", "*[aA][1]*"},
		{"ü_", `[üÜ]\_`, "*[üÜ]_*"},
		{"*?[]^%.", `\*\?\[\]\^\%\.`, "*[*][?][[]]^%.*"},
		{"k", "[k\u212aK]", "*[k\u212aK]*"}, // the Kelvin sign is a K
		{"日 ", `[日]\ `, "*[日] *"},
	} {
		re, err := SearchRegexp(row.query)
		glob, also := SearchGlob(row.query)
		if re != row.regexp || glob != row.glob || err != nil || also != nil {
			t.Errorf("%q: %q and %q, %v", row.query, re, glob, err)
		}
	}
	for _, bad := range []string{"\x00", "\xff"} {
		_, err := SearchRegexp(bad)
		_, also := SearchGlob(bad)
		if fault.CodeOf(err) != fault.InvalidArgument || fault.CodeOf(also) != fault.InvalidArgument {
			t.Errorf("%q: %v, %v", bad, err, also)
		}
	}
}
