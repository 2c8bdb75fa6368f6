package importer

import "github.com/patchbay-dev/patchbay/datafile"

// Vocabulary is the fields of each model, for the test of the reference.
func Vocabulary() map[string][]string {
	out := map[string][]string{}
	for _, m := range datafile.Models() {
		out[m] = modelFields(m)
	}
	return out
}
