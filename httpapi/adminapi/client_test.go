package adminapi_test

import (
	"bytes"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/client/admin"
	"github.com/patchbay-dev/patchbay/httpapi/adminapi"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

// names are the keys of a type in JSON, embedded ones included.
func names(t reflect.Type) []string {
	out := map[string]bool{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for _, n := range names(f.Type) {
				out[n] = true
			}
		case name != "" && name != "-":
			out[name] = true
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// The client knows every operation and every member of an answer.
func TestClientFollowsTheDocument(t *testing.T) {
	t.Parallel()
	client := reflect.TypeFor[*admin.Client]()
	for _, op := range newWorld(t).document.Operations() {
		if op.ID == "consent-callback" { // an issuer's redirect asks it
			continue
		}
		name := ""
		for part := range strings.SplitSeq(op.ID, "-") {
			name += strings.ToUpper(part[:1]) + part[1:]
		}
		if _, ok := client.MethodByName(name); !ok {
			t.Errorf("the client has no %s for %s", name, op.ID)
		}
	}
	for server, client := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[adminapi.Connector]():       reflect.TypeFor[admin.Connector](),
		reflect.TypeFor[adminapi.SecretStatus]():    reflect.TypeFor[admin.SecretStatus](),
		reflect.TypeFor[adminapi.DraftTestResult](): reflect.TypeFor[admin.TestResult](),
		reflect.TypeFor[adminapi.TestStep]():        reflect.TypeFor[admin.TestStep](),
		reflect.TypeFor[adminapi.Fix]():             reflect.TypeFor[admin.Fix](),
		reflect.TypeFor[adminapi.ConfigView]():      reflect.TypeFor[admin.Config](),
		reflect.TypeFor[adminapi.Revision]():        reflect.TypeFor[admin.Revision](),
		reflect.TypeFor[adminapi.Change]():          reflect.TypeFor[admin.Change](),
		reflect.TypeFor[adminapi.Resolution]():      reflect.TypeFor[admin.Resolution](),
		reflect.TypeFor[adminapi.Candidate]():       reflect.TypeFor[admin.Candidate](),
		reflect.TypeFor[adminapi.ConsentView]():     reflect.TypeFor[admin.Consent](),
		reflect.TypeFor[adminapi.Connected]():       reflect.TypeFor[admin.Connected](),
		reflect.TypeFor[adminapi.KindSummary]():     reflect.TypeFor[admin.Kind](),
		reflect.TypeFor[adminapi.ImportResult]():    reflect.TypeFor[admin.Imported](),
		reflect.TypeFor[adminapi.Organization]():    reflect.TypeFor[admin.Organization](),
		reflect.TypeFor[adminapi.Tenant]():          reflect.TypeFor[admin.Tenant](),
		reflect.TypeFor[adminapi.AuditEntry]():      reflect.TypeFor[admin.AuditEntry](),
		reflect.TypeFor[adminapi.Problem]():         reflect.TypeFor[admin.Problem](),
	} {
		if s, c := names(server), names(client); !slices.Equal(s, c) {
			t.Errorf("%s answers %v, the client reads %v", server, s, c)
		}
	}
}

func TestClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	c := &admin.Client{BaseURL: w.base + "/", Token: admin.StaticToken(w.kit.Token(adminClaims())), HTTP: w.client}
	hq := "hq"
	made, meta, err := c.CreateConnector(ctx, admin.Draft{Name: "A", Kind: "lab", OrganizationID: &hq, Params: map[string]any{"host": "one.example"},
		Secrets: map[string]string{"password": canary}}, admin.Once("0123456789abcdef"), admin.RequestID("mine"))
	must(t, err)
	if made.ETag() != meta.ETag || meta.Revision == 0 || meta.RequestID != "mine" || meta.Status != http.StatusCreated || meta.Replayed {
		t.Errorf("%+v %+v", made, meta)
	}
	again, meta, err := c.CreateConnector(ctx, admin.Draft{Name: "A", Kind: "lab", OrganizationID: &hq, Params: map[string]any{"host": "one.example"},
		Secrets: map[string]string{"password": canary}}, admin.Once("0123456789abcdef"))
	must(t, err)
	if !meta.Replayed || again.ID != made.ID {
		t.Errorf("%+v", meta)
	}
	name := "B"
	patched, _, err := c.PatchConnector(ctx, made.ID, admin.Edit{Name: &name, Params: map[string]any{"note": "n", "port": nil}, Secrets: map[string]*string{"client_secret": nil}}, admin.IfMatch(made.ETag()))
	must(t, err)
	if patched.Name != "B" || patched.Params["note"] != "n" {
		t.Errorf("%+v", patched)
	}
	_, _, err = c.PatchConnector(ctx, made.ID, admin.Edit{Name: &name}, admin.IfMatch(made.ETag()))
	if !admin.IsCode(err, "stale_version") {
		t.Errorf("%v", err)
	}
	_, _, err = c.PatchConnector(ctx, made.ID, admin.Edit{Params: map[string]any{"hots": "x"}}, admin.IfMatch("*"))
	if !admin.IsCode(err, "invalid_argument") || !strings.Contains(err.Error(), "/params/hots") {
		t.Errorf("%v", err)
	}
	test, err := c.TestConnector(ctx, made.ID, 0, "")
	must(t, err)
	if !test.OK {
		t.Errorf("%+v", test)
	}
	_, _, err = c.ActivateConnector(ctx, made.ID, "")
	must(t, err)
	_, _, err = c.SetDefault(ctx, made.ID)
	must(t, err)
	found, _, err := c.ResolveDefault(ctx, "hq", "storage", true)
	must(t, err)
	if found.ConnectorID == nil || *found.ConnectorID != made.ID || len(found.Candidates) != 1 {
		t.Errorf("%+v", found)
	}
	for range 3 {
		_, _, err := c.CloneConnector(ctx, made.ID, "copy", &hq)
		must(t, err)
	}
	n := 0
	for item, err := range c.Connectors(ctx, admin.Filter{Kind: "lab", Limit: 2}) {
		must(t, err)
		if n++; item.Kind != "lab" {
			t.Errorf("%+v", item)
		}
	}
	if n != 4 {
		t.Errorf("%d connectors", n)
	}
	history, err := c.ListRevisions(ctx, made.ID, "")
	must(t, err)
	if len(history.Items) < 3 || history.Items[len(history.Items)-1].Version != 1 {
		t.Errorf("%+v", history)
	}
	var file bytes.Buffer
	must(t, c.ExportDataFile(ctx, "yaml", &file))
	if !strings.Contains(file.String(), "one.example") || strings.Contains(file.String(), canary) {
		t.Errorf("%s", file.String())
	}
	imported, _, err := c.ImportDataFile(ctx, strings.NewReader(`<patchbay><record id="x" model="ir.connector"><field name="kind">lab</field><field name="config" eval="{'host': 'two.example'}"/></record></patchbay>`), admin.ImportOptions{DryRun: true})
	must(t, err)
	if !imported.Changed || imported.Created != 1 {
		t.Errorf("%+v", imported)
	}
	trail, err := c.ListAudit(ctx, admin.AuditFilter{Action: "connector.*", From: time.Now().Add(-time.Hour)}, "")
	must(t, err)
	var lines bytes.Buffer
	must(t, c.ExportAudit(ctx, admin.AuditFilter{Target: made.ID}, &lines))
	if len(trail.Items) == 0 || strings.Count(lines.String(), "\n") == 0 {
		t.Error("no audit")
	}
	_, _, err = c.CreateTenant(ctx, "fresh", "Fresh")
	if !admin.IsCode(err, "permission_denied") {
		t.Errorf("%v", err)
	}
	operator := &admin.Client{BaseURL: w.base, Tenant: "acme", HTTP: w.client,
		Token: admin.StaticToken(w.kit.Token(devissuer.Claims{Tenant: "globex", Roles: []string{"platform.admin"}, TTL: time.Hour}))}
	if _, _, err := operator.GetConnector(ctx, made.ID); err != nil {
		t.Error(err)
	}
	for _, replayed := range []bool{false, true} {
		made, meta, err := operator.CreateTenant(ctx, "fresh", "Fresh", admin.Once("tenant-0123456789"))
		if err != nil || made.ID != "fresh" || meta.Replayed != replayed || meta.Status != http.StatusCreated {
			t.Errorf("%+v, %+v, %v", made, meta, err)
		}
	}
	if _, _, err := operator.CreateTenant(ctx, "other", "", admin.Once("tenant-0123456789")); !admin.IsCode(err, "invalid_argument") {
		t.Errorf("another tenant under the key: %v", err)
	}
	meta, err = c.DeleteConnector(ctx, made.ID, admin.Goodbye{AllowNoDefault: true}, admin.IfMatch("*"))
	must(t, err)
	if meta.Status != http.StatusNoContent || meta.Revision == 0 {
		t.Errorf("%+v", meta)
	}
}
