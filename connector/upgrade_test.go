package connector_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

func zoneToRegion(p map[string]any) error {
	if v, ok := p["zone"]; ok {
		delete(p, "zone")
		p["region"] = v
	}
	return nil
}

// A param that was cleared stays so through a new version of its kind, under its
// new name too. No secret has another name, so none is read.
func TestUpgradeOfClearedParams(t *testing.T) {
	t.Parallel()
	schema := &providers.Schema{Version: 2, Upgrades: []providers.Upgrade{{Params: zoneToRegion}}}
	at := time.Now().UTC()
	c := connector.Connector{SchemaVersion: 1, UpdatedAt: at, Params: map[string]connector.Param{
		"zone":   {Imported: "eu", Writer: connector.WriterAPI, UpdatedAt: at},
		"prefix": {Imported: "p/", Writer: connector.WriterAPI, UpdatedAt: at},
		"bucket": {Value: "b", Imported: "a", Writer: connector.WriterAPI, UpdatedAt: at},
	}}
	before := c.Params
	rewrite, err := connector.Upgrade(schema, &c, func() (*connector.Bundle, error) {
		t.Error("the secrets were read")
		return &connector.Bundle{}, nil
	})
	if err != nil || rewrite {
		t.Fatal(rewrite, err)
	}
	want := map[string]connector.Param{
		"region": {Imported: "eu", Writer: connector.WriterAPI, UpdatedAt: at},
		"prefix": {Imported: "p/", Writer: connector.WriterAPI, UpdatedAt: at},
		"bucket": {Value: "b", Imported: "a", Writer: connector.WriterAPI, UpdatedAt: at},
	}
	if !reflect.DeepEqual(c.Params, want) || c.SchemaVersion != 2 || len(before) != 3 || before["zone"].Imported != "eu" {
		t.Errorf("%+v, before %+v", c, before)
	}
}

// Secrets change names, also with one another and twice, and what the last import
// brought is still known of them, whether the value is the imported one or not.
func TestUpgradeOfSecrets(t *testing.T) {
	t.Parallel()
	schema := &providers.Schema{Version: 3, Upgrades: []providers.Upgrade{
		{From: 1, Secrets: map[string]string{"old": "new", "new": "old", "never": "set"}},
		{From: 2, Secrets: map[string]string{"new": "newest"}},
	}}
	id := connector.NewID()
	file, api, other := secret.New("from the file"), secret.New("from the api"), secret.New("another")
	bundle := connector.Bundle{Values: secret.Map{"old": api, "new": other}}
	bundle.Remember(id, "old", file)
	bundle.Remember(id, "new", other)
	bundle.Remember(id, "gone", file)
	c := connector.Connector{ID: id, SchemaVersion: 1, Secrets: map[string]connector.SecretInfo{"old": {Version: 4}, "new": {Version: 2}}}
	rewrite, err := connector.Upgrade(schema, &c, func() (*connector.Bundle, error) { return &bundle, nil })
	if err != nil || !rewrite {
		t.Fatal(rewrite, err)
	}
	if len(bundle.Values) != 2 || !bundle.Values["newest"].Equal(api) || !bundle.Values["old"].Equal(other) ||
		!reflect.DeepEqual(c.Secrets, map[string]connector.SecretInfo{"newest": {Version: 4}, "old": {Version: 2}}) {
		t.Errorf("%v, %+v", bundle.Values.Names(), c.Secrets)
	}
	for _, row := range []struct {
		name string
		is   secret.Value
		not  secret.Value
	}{{"newest", file, api}, {"old", other, file}, {"gone", file, other}} {
		if !bundle.Brought(id, row.name, row.is) || bundle.Brought(id, row.name, row.not) {
			t.Errorf("what the import brought of %q is not known any more", row.name)
		}
	}
	if bundle.Brought(id, "new", file) || bundle.Brought(connector.NewID(), "gone", file) {
		t.Error("a digest fits another name or connector")
	}
	if again, err := connector.Upgrade(schema, &c, nil); again || err != nil {
		t.Errorf("again: %v, %v", again, err)
	}
}

// Without its secrets a connector stays at its version: half of an upgrade could
// not be read.
func TestUpgradeWithoutTheVault(t *testing.T) {
	t.Parallel()
	schema := &providers.Schema{Version: 2, Upgrades: []providers.Upgrade{{From: 1, Params: zoneToRegion, Secrets: map[string]string{"old": "new"}}}}
	c := connector.Connector{SchemaVersion: 1, Params: map[string]connector.Param{"zone": {Value: "eu"}}, Secrets: map[string]connector.SecretInfo{"old": {}}}
	away := errors.New("away")
	if _, err := connector.Upgrade(schema, &c, func() (*connector.Bundle, error) { return nil, away }); !errors.Is(err, away) {
		t.Fatal(err)
	}
	if c.SchemaVersion != 1 || c.Params["zone"].Value != "eu" || len(c.Secrets) != 1 {
		t.Errorf("%+v", c)
	}
}
