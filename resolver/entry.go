package resolver

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// key is a question: a slot, or a connector id as seen from an organization.
type key struct {
	tenant   tenant.ID
	org      tenant.OrganizationID
	category providers.Category
	id       connector.ID
	session  uint64 // 0: the process's own right to secrets
}

// shared is the question's name in the shared cache. ':' is in no id.
func (k key) shared() SharedKey {
	if k.id.IsZero() {
		return SharedKey{Tenant: k.tenant, Name: "s:" + k.org.String() + ":" + string(k.category)}
	}
	return SharedKey{Tenant: k.tenant, Name: "c:" + k.org.String() + ":" + k.id.String()}
}

// entry is one answer in memory, a negative one when err is set. All but mark
// and wrong is immutable.
type entry struct {
	state   *state
	mark    atomic.Pointer[mark] // the latest own validation
	digest  [sha256.Size]byte    // of the facts
	err     error
	body    secret.Body
	etag    string
	expires time.Time // of a minted token, or of a "no" of Vault; zero when none
	session Session   // whose right the secrets were read with; nil: the process's own
	// facts are kept of a backend with a minted token only, so that it can be made
	// anew while the database is away.
	facts *facts
	// refresh is when a backend with a minted token is to be made anew, in the
	// background; 0: never. It moves on with each try.
	refresh atomic.Int64
	// upstream: err is the clear "no" of Vault or an issuer, not the database's.
	upstream bool
	// maxStale is that of the connector's category.
	maxStale time.Duration
	wrong    atomic.Bool // a later reading of the record was different
}

// validation is the latest moment at which the database vouched for the entry,
// by itself or through its tenant's revision.
func (e *entry) validation() mark {
	m := *e.mark.Load()
	if t := e.state.validated.Load(); t != nil && t.revision == m.revision && t.at > m.at {
		return *t
	}
	return m
}

// unsuspected tells whether nothing heard since the validation speaks against it.
func (e *entry) unsuspected(m mark) bool {
	return !e.state.dead.Load() && !e.wrong.Load() &&
		m.revision >= e.state.floor.Load() &&
		int64(m.at) >= e.state.suspectBefore.Load()
}

// size estimates the resident bytes of an entry, key and bookkeeping included.
func (e *entry) size() int {
	n := entryOverhead + e.body.Len() + len(e.etag)
	if e.facts != nil {
		n += factsOverhead + e.body.Len() // its params are about what the body shows
	}
	return n
}

// What an entry and a pin take beside their bytes, measured: the struct, its
// mark, the key, the nodes of table and policy, a share of the tenant's state.
const (
	entryOverhead = 500
	pinOverhead   = 170
	factsOverhead = 400
)

// staleTail and freshTail end every body, so that the stale form of an answer
// is made by swapping the end, and only when needed.
const (
	freshTail = `,"stale":false}`
	staleTail = `,"stale":true}`
)

// staleBody is the body with "stale": true.
func staleBody(b secret.Body) secret.Body {
	raw := b.Reveal()
	out := make([]byte, 0, len(raw))
	out = append(out, raw[:len(raw)-len(freshTail)]...)
	return secret.NewBody(append(out, staleTail...))
}

type bodyConnector struct {
	ID           connector.ID       `json:"id"`
	ExternalID   *string            `json:"external_id"`
	Name         string             `json:"name"`
	Category     providers.Category `json:"category"`
	Kind         providers.Kind     `json:"kind"`
	Organization *string            `json:"organization"`
	Inherited    bool               `json:"inherited"`
	Active       bool               `json:"active"`
	Version      int64              `json:"version"`
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// encodeBody writes the object of DESIGN 3.2 and its ETag. The tag covers the
// connector, the non-secret config, the pin (which stands for the secrets: they
// never change under one pin) and expires_at, so no secret goes into it.
func encodeBody(f facts, b providers.Backend) (secret.Body, string, error) {
	c := f.Connector
	head, err := plainJSON(bodyConnector{
		ID: c.ID, ExternalID: orNull(c.ExternalID), Name: c.Name, Category: c.Category, Kind: c.Kind,
		Organization: orNull(c.Organization.String()), Inherited: f.Inherited, Active: c.Active, Version: c.Version,
	})
	if err != nil {
		return secret.Body{}, "", fault.New(fault.Internal, "the connector cannot be encoded").WithCause(err)
	}
	expires := []byte("null")
	if !b.ExpiresAt.IsZero() {
		expires = []byte(`"` + b.ExpiresAt.UTC().Format(time.RFC3339) + `"`)
	}

	tag := sha256.New()
	part := func(p []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		tag.Write(n[:])
		tag.Write(p)
	}
	part(head)
	part([]byte(c.Pin.String()))
	part(expires)
	if !b.ExpiresAt.IsZero() {
		// Stands for the token: two of one second are told apart by what is not shown.
		part([]byte(b.ExpiresAt.UTC().Format(time.RFC3339Nano)))
	}

	out := append([]byte(`{"connector":`), head...)
	out = append(out, `,"config":{`...)
	names := slices.Sorted(maps.Keys(b.Params))
	names = append(names, b.Secrets.Names()...)
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		label, err := plainJSON(name)
		if err != nil {
			return secret.Body{}, "", fault.New(fault.Internal, "the config cannot be encoded").WithCause(err)
		}
		out = append(append(out, label...), ':')
		v, isSecret := b.Secrets[name]
		var value []byte
		if isSecret {
			value, err = plainJSON(v.Reveal())
			part(label)
		} else {
			value, err = plainJSON(b.Params[name])
			part(label)
			part(value)
		}
		if err != nil {
			return secret.Body{}, "", fault.New(fault.Internal, "the config cannot be encoded").WithCause(err)
		}
		out = append(out, value...)
	}
	out = append(out, `},"expires_at":`...)
	out = append(out, expires...)
	out = append(out, freshTail...)
	etag := `"` + base64.RawURLEncoding.EncodeToString(tag.Sum(nil)[:18]) + `"`
	return secret.NewBody(slices.Clone(out)), etag, nil // without what append kept in reserve
}

// plainJSON is json.Marshal without its escapes for HTML: the answer is no web
// page, and whoever reads a password off a terminal should find no \u0026 in it.
func plainJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
