package importer

import (
	"reflect"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/providers"
)

// A param that was cleared stays so through a new version of its kind, under its
// new name too.
func TestUpgradeOfClearedParams(t *testing.T) {
	t.Parallel()
	schema := &providers.Schema{Version: 2, Upgrades: []providers.Upgrade{{Params: func(p map[string]any) error {
		if v, ok := p["zone"]; ok {
			delete(p, "zone")
			p["region"] = v
		}
		return nil
	}}}}
	at := time.Now().UTC()
	stored := &connector.Connector{SchemaVersion: 1, UpdatedAt: at}
	plan := &connectorPlan{stored: stored, next: connector.Connector{SchemaVersion: 1, Params: map[string]connector.Param{
		"zone":   {Imported: "eu", Writer: connector.WriterAPI, UpdatedAt: at},
		"prefix": {Imported: "p/", Writer: connector.WriterAPI, UpdatedAt: at},
		"bucket": {Value: "b", Imported: "a", Writer: connector.WriterAPI, UpdatedAt: at},
	}}}
	if err := upgrade(schema, plan); err != nil {
		t.Fatal(err)
	}
	want := map[string]connector.Param{
		"region": {Imported: "eu", Writer: connector.WriterAPI, UpdatedAt: at},
		"prefix": {Imported: "p/", Writer: connector.WriterAPI, UpdatedAt: at},
		"bucket": {Value: "b", Imported: "a", Writer: connector.WriterAPI, UpdatedAt: at},
	}
	if !reflect.DeepEqual(plan.next.Params, want) {
		t.Errorf("%+v", plan.next.Params)
	}
}
