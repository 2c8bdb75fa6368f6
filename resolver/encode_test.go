package resolver

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// A password reads in the answer as it was written: JSON's own escapes, none for
// HTML.
func TestAnswerEscapesForJSONOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const password = `<a>&'"\` + "\u2028é"
		w := newWorld()
		w.secrets[connector.SecretRef{Tenant: acme, Connector: theID, Pin: w.pin}] = secret.Map{
			"access_key_id": secret.New("AK"), "secret_access_key": secret.New(password),
		}
		a, err := newResolver(t, w, nil).Resolve(t.Context(), slot, 0)
		if err != nil {
			t.Fatal(err)
		}
		if want := `"secret_access_key":"<a>&'\"\\` + `\u2028é"`; !strings.Contains(string(a.Body.Reveal()), want) {
			t.Errorf("%s\nlacks %s", a.Body.Reveal(), want)
		}
	})
}
