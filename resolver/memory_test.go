//go:build !race

// The race detector multiplies memory.

package resolver

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// crowd is a database and secret store of many tenants, whose connectors
// all have ids, pins and values of their own.
type crowd struct{}

type crowdReader struct {
	connector.TenantReader
	id tenant.ID
}

func (crowd) Tenant(id tenant.ID) connector.TenantReader { return crowdReader{id: id} }

func (crowd) Revisions(context.Context, []tenant.ID) (connector.Revisions, error) {
	return connector.Revisions{}, errDown
}

func (r crowdReader) Default(_ context.Context, org tenant.OrganizationID, c providers.Category) (connector.Snapshot, error) {
	k := &connector.Connector{
		ID: connector.NewID(), ExternalID: fmt.Sprintf("connector_%s_%s", r.id, c), Name: fmt.Sprintf("The %s of %s", c, r.id),
		Category: c, Organization: org, Active: true, Default: true, State: connector.StateConnected, Version: 4,
		Pin: vault.NewPin(), Kind: "s3", Params: map[string]connector.Param{
			"bucket": {Value: fmt.Sprintf("%s-production-bucket", r.id)}, "region": {Value: "eu-central-1"},
			"endpoint": {Value: "https://s3.example.com"}, "prefix": {Value: "app/"},
		},
	}
	return connector.Snapshot{Revision: 1_766_000_000_000, At: time.Now(), Tenant: connector.StatusReady,
		Organization: connector.OrganizationActive, Connector: k}, nil
}

func (crowd) Read(_ context.Context, ref connector.SecretRef) (vault.Bundle, error) {
	return vault.Bundle{Values: secret.Map{
		"access_key_id":     secret.New("AKIA" + ref.Pin.String()[:16]),
		"secret_access_key": secret.New(ref.Pin.String() + "0123456789abcd"),
	}}, nil
}

// The budget of DESIGN 10 is 64 MiB for the whole process over idle, verified
// tokens included: the resolver's share must leave room for those. And what the
// cache believes an entry weighs must be near what it weighs, or max_bytes means
// nothing.
func TestMemoryOfHotTenants(t *testing.T) {
	const tenants = 10_000
	kinds, err := builtin.Registry()
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Options{Database: crowd{}, Secrets: crowd{}, Kinds: kinds})
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	for i := range tenants {
		id := tenant.MustID(fmt.Sprintf("tenant-%05d", i))
		if _, err := r.Resolve(t.Context(), Slot{Tenant: id, Organization: acmeHQ, Category: providers.Storage}, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Resolve(t.Context(), Slot{Tenant: id, Organization: acmeHQ, Category: providers.Email}, 0); err != nil {
			t.Fatal(err)
		}
	}
	used := heap() - before
	weight := r.memory.WeightedSize() + r.pins.WeightedSize()
	t.Logf("%d answers: %d bytes each, %.1f MiB; weighed as %.1f MiB", 2*tenants, used/(2*tenants),
		float64(used)/(1<<20), float64(weight)/(1<<20))
	if r.memory.EstimatedSize() != 2*tenants || r.pins.EstimatedSize() != 2*tenants {
		t.Errorf("%d answers and %d pins fit into the default max_bytes", r.memory.EstimatedSize(), r.pins.EstimatedSize())
	}
	if used > 30<<20 {
		t.Errorf("%d bytes", used)
	}
	if weight < used*9/10 || weight > used*5/4 {
		t.Errorf("%d bytes are weighed as %d", used, weight)
	}
	runtime.KeepAlive(r)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestPackedBundle(t *testing.T) {
	for _, m := range []secret.Map{
		{}, {"a": secret.New("")}, {"a": secret.New("x"), "bb": secret.New(strings.Repeat("y", 70_000)), "ccc": secret.New("\x00\xff")},
	} {
		packed := pack(m)
		if got := unpack(packed); !got.Equal(m) || len(got) != len(m) {
			t.Errorf("%v came back as %v", m, got)
		}
		if raw := packed.Reveal(); cap(raw) > len(raw)+len(raw)/4+16 {
			t.Errorf("%d bytes take %d", len(raw), cap(raw))
		}
	}
}
