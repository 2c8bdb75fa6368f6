package vault_test

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

func TestBundlePath(t *testing.T) {
	t.Parallel()
	id, err := connector.ParseID("01980000-0000-7000-8000-000000000001")
	if err != nil {
		t.Fatal(err)
	}
	pin, err := connector.ParsePin("01ARZ3NDEKTSV4RRFFQ69G5FAV")
	if err != nil {
		t.Fatal(err)
	}
	ref := connector.SecretRef{Tenant: tenant.MustID("acme"), Connector: id, Pin: pin}
	got, err := vault.BundlePath("secret/patchbay", ref)
	if want := "secret/patchbay/acme/01980000-0000-7000-8000-000000000001/01ARZ3NDEKTSV4RRFFQ69G5FAV"; err != nil || got != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	got, err = vault.GrantPath("secret/patchbay", ref.Tenant, id)
	if want := "secret/patchbay/acme/01980000-0000-7000-8000-000000000001/grant"; err != nil || got != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	if got, _ := vault.TenantPath("", ref.Tenant); got != "acme" {
		t.Errorf("without a base: %q", got)
	}
}

// TestPathStaysUnderItsTenant feeds arbitrary text to every parser and base:
// whatever is accepted names a path that needs no cleaning, lies below the
// tenant's folder, and differs from every other reference's.
func TestPathStaysUnderItsTenant(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		wild := rapid.OneOf(
			rapid.StringMatching(`[a-z0-9_./%\\-]{0,12}`), rapid.String(),
			rapid.StringMatching(`[a-z][a-z0-9_-]{0,5}(/[a-z.]{1,3})?`))
		base := wild.Draw(rt, "base")
		tn, err := tenant.ParseID(wild.Draw(rt, "tenant"))
		if err != nil {
			tn = tenant.MustID("acme")
		}
		pin := vault.NewPin()
		if p, err := connector.ParsePin(wild.Draw(rt, "pin")); err == nil {
			pin = p
		}
		ref := connector.SecretRef{Tenant: tn, Connector: connector.NewID(), Pin: pin}
		got, err := vault.BundlePath(base, ref)
		if err != nil {
			if vault.CheckPath(base) == nil {
				rt.Fatalf("base %q is fine and still refused: %v", base, err)
			}
			return
		}
		home := strings.TrimPrefix(base+"/"+tn.String()+"/", "/")
		if path.Clean(got) != got || !strings.HasPrefix(got, home) || strings.Count(got[len(home):], "/") != 1 {
			rt.Fatalf("%q is not below %q", got, home)
		}
		other := ref
		other.Tenant = tenant.MustID("zz-other")
		if theirs, _ := vault.BundlePath(base, other); theirs == got && tn != other.Tenant {
			rt.Fatal("two tenants share a path")
		}
	})
}

func FuzzCheckPath(f *testing.F) {
	for _, s := range []string{"", "a", "a/b", "../a", "a/../b", "a//b", "/a", "a/", ".", "...", "a%2f..", "a\\b", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		got, err := vault.TenantPath(p, tenant.MustID("acme"))
		if err != nil {
			if fault.CodeOf(err) != fault.InvalidArgument {
				t.Fatalf("%q: %v", p, err)
			}
			return
		}
		if path.Clean(got) != got || strings.HasPrefix(got, "/") {
			t.Fatalf("%q became %q", p, got)
		}
		if want := strings.TrimPrefix(p+"/acme", "/"); got != want {
			t.Fatalf("%q became %q", p, got)
		}
	})
}

func TestNewPin(t *testing.T) {
	t.Parallel()
	seen := map[connector.Pin]bool{}
	for range 10_000 {
		p := vault.NewPin()
		if seen[p] || p.IsZero() {
			t.Fatalf("pin %v came twice", p)
		}
		seen[p] = true
	}
}
