package resolver

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// record is what a question's answer is made of, without secrets: the form that
// the shared cache holds and that decides whether anything changed.
type record struct {
	Revision int64     `json:"r"`
	At       time.Time `json:"w"`
	Facts    facts     `json:"f"`
}

// facts are the parts of a record that make the answer. Two equal facts are the
// same answer, whatever their revision.
type facts struct {
	Tenant       connector.Status             `json:"t,omitempty"`
	Organization connector.OrganizationStatus `json:"o,omitempty"`
	Grant        connector.GrantStatus        `json:"g,omitempty"`
	GrantVersion int64                        `json:"gv,omitempty"`
	Inherited    bool                         `json:"i,omitempty"`
	Connector    *recordConnector             `json:"c,omitempty"`
}

type recordConnector struct {
	ID           connector.ID          `json:"id"`
	ExternalID   string                `json:"x,omitempty"`
	Name         string                `json:"n"`
	Category     providers.Category    `json:"c"`
	Kind         providers.Kind        `json:"k"`
	Organization tenant.OrganizationID `json:"o"`
	State        connector.State       `json:"s"`
	Active       bool                  `json:"a,omitempty"`
	BlockPinned  bool                  `json:"b,omitempty"`
	Version      int64                 `json:"v"`
	Schema       int                   `json:"sv"`
	Pin          connector.Pin         `json:"p"`
	Params       map[string]any        `json:"m,omitempty"`
}

// recordOf keeps of a snapshot what answers need.
func recordOf(s connector.Snapshot) record {
	r := record{Revision: s.Revision, At: s.At, Facts: facts{
		Tenant: s.Tenant, Organization: s.Organization, Grant: s.Grant, GrantVersion: s.GrantVersion, Inherited: s.Inherited,
	}}
	if c := s.Connector; c != nil {
		rc := &recordConnector{
			ID: c.ID, ExternalID: c.ExternalID, Name: c.Name, Category: c.Category, Kind: c.Kind,
			Organization: c.Organization, State: c.State, Active: c.Active, BlockPinned: c.BlockPinned,
			Version: c.Version, Schema: c.SchemaVersion, Pin: c.Pin, Params: make(map[string]any, len(c.Params)),
		}
		if rc.State != connector.StateNeedsReauthorization {
			rc.State = "" // test results change states all day and no answer
		}
		for name, p := range c.Params {
			if p.Value != nil { // one that was cleared only remembers what was imported
				rc.Params[name] = p.Value
			}
		}
		r.Facts.Connector = rc
	}
	return r
}

// digest identifies the facts: encoding/json sorts map keys, so equal facts give
// equal bytes.
func (f facts) digest() ([sha256.Size]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return [sha256.Size]byte{}, fault.New(fault.Internal, "the record cannot be encoded").WithCause(err)
	}
	return sha256.Sum256(b), nil
}

// decodeRecord reads what the shared cache held. Numbers come back as int64
// where they are written without fraction or exponent, else float64: the
// canonical forms of providers.Schema.Decode.
func decodeRecord(b []byte) (record, error) {
	var r record
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&r); err != nil {
		return record{}, fault.New(fault.Internal, "the shared entry cannot be read").WithCause(err)
	}
	if c := r.Facts.Connector; c != nil {
		for k, v := range c.Params {
			c.Params[k] = canonical(v)
		}
	}
	return r, nil
}

func canonical(v any) any {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			if i, err := v.Int64(); err == nil {
				return i
			}
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case []any:
		for i := range v {
			v[i] = canonical(v[i])
		}
		return v
	case map[string]any:
		for k := range v {
			v[k] = canonical(v[k])
		}
		return v
	default:
		return v
	}
}

// verdict tells which error the facts amount to, nil when a backend answers.
// byID chooses between "no default" and "no such connector".
func (f facts) verdict(byID bool) error {
	switch {
	case f.Tenant == connector.StatusMissing:
		return fault.New(fault.NotFound, "the tenant is unknown")
	case f.Tenant == connector.StatusSuspended:
		return fault.New(fault.TenantSuspended, "the tenant is suspended")
	case f.Organization == connector.OrganizationInactive:
		return fault.New(fault.PermissionDenied, "the organization is deactivated")
	case f.Connector == nil && byID:
		return fault.New(fault.NotFound, "there is no such connector")
	case f.Connector == nil:
		return fault.New(fault.NoDefaultConnector, "no default connector is configured for this category")
	case f.Grant == connector.GrantNeedsReauthorization,
		// The control plane writes the state after the grant: an active grant is the
		// later word.
		f.Connector.State == connector.StateNeedsReauthorization && f.Grant != connector.GrantActive:
		return fault.New(fault.NeedsReauthorization, "the connector needs to be authorized again")
	case !f.Connector.Active && f.Connector.BlockPinned:
		return fault.New(fault.Inactive, "the connector is deactivated and blocks pinned use")
	default:
		return nil
	}
}
