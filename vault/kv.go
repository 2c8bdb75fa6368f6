package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
)

// The API is KV version 2 (developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2):
// one path under several names. data reads and writes versions, metadata lists,
// dates and removes, destroy destroys single versions. A policy for a data plane
// needs read on data only.

// dataBase and metaBase are what stands before the tenant in KV v2's API.
func (c *Client) dataBase() string { return c.kvBase("data") }
func (c *Client) metaBase() string { return c.kvBase("metadata") }

func (c *Client) kvBase(kind string) string {
	return strings.TrimSuffix(c.o.Mount+"/"+kind+"/"+c.o.Prefix, "/")
}

// call sends a request with the held token. A 403 may be an expired or revoked
// token: log in once, try once more; a second 403 is Vault's word on this
// path, and nothing that is held is dropped for it.
func (c *Client) call(ctx context.Context, method, path string, body secret.Body, count func()) (answer, error) {
	if ctx.Err() != nil {
		return answer{}, tooLate(ctx)
	}
	l, err := c.token(ctx)
	if err != nil {
		return answer{}, err
	}
	count()
	ans, err := c.send(ctx, l.token, method, path, body)
	if err != nil || ans.status != http.StatusForbidden {
		return ans, err
	}
	c.refusals.Add(1)
	if l, err = c.relogin(ctx, l); err != nil {
		return answer{}, err
	}
	count()
	ans, err = c.send(ctx, l.token, method, path, body)
	if err == nil && ans.status == http.StatusForbidden {
		c.refusals.Add(1)
		c.believeRefusal(refusedFor)
		return answer{}, statusFault(http.StatusForbidden)
	}
	return ans, err
}

// Lists and metadata reads are the sweeper's and counted as neither: Reads has
// to tell how often a resolve went to Vault.
func (c *Client) countRead()  { c.reads.Add(1) }
func (c *Client) countWrite() { c.writes.Add(1) }

// version is what KV v2 says of one version of a path.
type version struct {
	Data     json.RawMessage `json:"data"`
	Metadata *struct {
		Version      int64  `json:"version"`
		CreatedTime  string `json:"created_time"`
		DeletionTime string `json:"deletion_time"`
		Destroyed    bool   `json:"destroyed"`
	} `json:"metadata"`
}

// gone tells whether the metadata says so. A live version may have a deletion
// time in the future (delete_version_after); then it has data too.
func (v version) gone() bool {
	return v.Metadata != nil && (v.Metadata.Destroyed || v.Metadata.DeletionTime != "")
}

// empty tells a version without data. KV v2 sends null for a deleted one, and
// the API library gives that back as no data and no error: not an answer.
func (v version) empty() bool { return len(v.Data) == 0 || string(v.Data) == "null" }

// reshape turns a parsed answer's data into a struct.
func reshape(a answer, to any) error {
	if a.secret == nil || a.secret.Data == nil {
		return nil
	}
	raw, err := json.Marshal(a.secret.Data)
	if err == nil {
		err = json.Unmarshal(raw, to)
	}
	if err != nil {
		// The decoder's text may quote a value.
		return fault.New(fault.Unavailable, "Vault's answer has an unknown shape")
	}
	return nil
}

// latest reads the latest version of an API path with the held token.
func (c *Client) latest(ctx context.Context, path string) (Bundle, version, bool, error) {
	return c.latestBy(ctx, path, c.call)
}

// caller sends a request with some token; see Client.call.
type caller func(ctx context.Context, method, path string, body secret.Body, count func()) (answer, error)

// latestBy reads the latest version of an API path. A nil error comes with data;
// absent is true for the bare 404 of a path that Vault doesn't know.
func (c *Client) latestBy(ctx context.Context, path string, call caller) (b Bundle, v version, absent bool, err error) {
	ans, err := call(ctx, http.MethodGet, path, secret.Body{}, c.countRead)
	if err != nil {
		return b, v, false, err
	}
	if ans.status != http.StatusOK && ans.status != http.StatusNotFound {
		return b, v, false, statusFault(ans.status)
	}
	if err := reshape(ans, &v); err != nil {
		return b, v, false, err
	}
	switch {
	case v.empty() && v.gone():
		return b, v, false, fault.New(fault.NotFound, "these secrets were deleted")
	case ans.status == http.StatusNotFound && v.Metadata == nil && ans.noError:
		return b, v, true, fault.New(fault.Unavailable, "Vault has no record of these secrets").WithCause(statusError{ans.status})
	case v.empty() || v.Metadata == nil:
		return b, v, false, statusFault(ans.status)
	}
	b, err = Decode(secret.NewBody(v.Data))
	return b, v, false, err
}

// put writes a version if the latest is cas, and returns the new one.
func (c *Client) put(ctx context.Context, path string, b Bundle, cas int64, lost error) (int64, error) {
	plain, err := Encode(b)
	if err != nil {
		return 0, err
	}
	raw, err := json.Marshal(map[string]any{
		"options": map[string]int64{"cas": cas},
		"data":    json.RawMessage(plain.Reveal()),
	})
	if err != nil {
		return 0, fault.New(fault.Internal, "a bundle could not be serialised")
	}
	ans, err := c.call(ctx, http.MethodPost, path, secret.NewBody(raw), c.countWrite)
	if err != nil {
		return 0, err
	}
	switch {
	case ans.status == http.StatusOK:
	case ans.status == http.StatusBadRequest && ans.casMismatch:
		return 0, lost
	default:
		return 0, statusFault(ans.status)
	}
	var got struct {
		Version int64 `json:"version"`
	}
	if err := reshape(ans, &got); err != nil {
		return 0, err
	}
	return got.Version, nil
}

// Write implements Store. An error other than AlreadyExists does not tell that
// nothing was written; callers take a new pin.
func (c *Client) Write(ctx context.Context, ref connector.SecretRef, b Bundle) error {
	path, err := BundlePath(c.dataBase(), ref)
	if err != nil {
		return err
	}
	_, err = c.put(ctx, path, b, 0, fault.New(fault.AlreadyExists, "these secrets have been written before"))
	return err
}

// Read implements Store.
func (c *Client) Read(ctx context.Context, ref connector.SecretRef) (Bundle, error) {
	path, err := BundlePath(c.dataBase(), ref)
	if err != nil {
		return Bundle{}, err
	}
	b, _, _, err := c.latest(ctx, path)
	return b, err
}

// Delete implements Store. Vault keeps the data until Destroy; deleting what is
// deleted, or was never there, answers 204 as well and moves no time.
func (c *Client) Delete(ctx context.Context, ref connector.SecretRef) error {
	path, err := BundlePath(c.dataBase(), ref)
	if err != nil {
		return err
	}
	return c.remove(ctx, path)
}

// Destroy implements Store. Without metadata Vault has forgotten the path: it
// could be written again. Only that pins are never reused keeps it from that.
func (c *Client) Destroy(ctx context.Context, ref connector.SecretRef) error {
	path, err := BundlePath(c.metaBase(), ref)
	if err != nil {
		return err
	}
	return c.remove(ctx, path)
}

// remove sends a DELETE, which KV v2 answers without a body.
func (c *Client) remove(ctx context.Context, path string) error {
	ans, err := c.call(ctx, http.MethodDelete, path, secret.Body{}, c.countWrite)
	if err != nil {
		return err
	}
	if ans.status != http.StatusNoContent && ans.status != http.StatusOK {
		return statusFault(ans.status)
	}
	return nil
}

// ReadGrant implements Store. A grant that somebody deleted in Vault is
// fault.NotFound with the Version to write over.
func (c *Client) ReadGrant(ctx context.Context, t tenant.ID, id connector.ID) (Grant, error) {
	path, err := GrantPath(c.dataBase(), t, id)
	if err != nil {
		return Grant{}, err
	}
	b, v, absent, err := c.latest(ctx, path)
	if absent {
		return Grant{}, nil
	}
	g := Grant{Values: b.Values}
	if v.Metadata != nil {
		g.Version = v.Metadata.Version
		// Zero for what is no time: then it is as old as can be.
		g.WrittenAt, _ = time.Parse(time.RFC3339Nano, v.Metadata.CreatedTime)
	}
	return g, err
}

// WriteGrant implements Store. A timeout leaves open whether the write took
// place: the caller reads the grant again before it judges.
func (c *Client) WriteGrant(ctx context.Context, t tenant.ID, id connector.ID, g secret.Map, cas int64) (int64, error) {
	path, err := GrantPath(c.dataBase(), t, id)
	if err != nil {
		return 0, err
	}
	return c.put(ctx, path, Bundle{Values: g}, cas, fault.New(fault.Conflict, "the grant was changed meanwhile"))
}

// ForgetGrant implements Store. KV v2 keeps older versions (ten, unless configured
// otherwise) for whoever may read them, and a refresh token is good in each: so they
// are destroyed. That is another path's right in a policy: "update" below destroy.
func (c *Client) ForgetGrant(ctx context.Context, t tenant.ID, id connector.ID, cas int64) (int64, error) {
	g, err := c.ReadGrant(ctx, t, id)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return 0, err
	}
	if g.Version != cas {
		return 0, fault.New(fault.Conflict, "the grant was changed meanwhile")
	}
	if g.Version == 0 {
		return 0, nil
	}
	if len(g.Values) > 0 || err != nil {
		if g.Version, err = c.WriteGrant(ctx, t, id, secret.Map{}, cas); err != nil {
			return 0, err
		}
	}
	return g.Version, c.destroyBefore(ctx, t, id, g.Version)
}

// destroyBefore destroys what a grant's path still holds of versions before one.
func (c *Client) destroyBefore(ctx context.Context, t tenant.ID, id connector.ID, version int64) error {
	path, err := GrantPath(c.metaBase(), t, id)
	if err != nil {
		return err
	}
	ans, err := c.call(ctx, http.MethodGet, path, secret.Body{}, func() {})
	if err != nil {
		return err
	}
	if ans.status != http.StatusOK {
		return statusFault(ans.status)
	}
	var held struct {
		Versions map[string]struct {
			Destroyed bool `json:"destroyed"`
		} `json:"versions"`
	}
	if err := reshape(ans, &held); err != nil {
		return err
	}
	var left []int64
	for text, v := range held.Versions {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && n < version && !v.Destroyed {
			left = append(left, n)
		}
	}
	if len(left) == 0 {
		return nil
	}
	if path, err = GrantPath(c.kvBase("destroy"), t, id); err != nil {
		return err
	}
	raw, err := json.Marshal(map[string][]int64{"versions": left})
	if err != nil {
		return fault.New(fault.Internal, "a list of versions could not be serialised")
	}
	ans, err = c.call(ctx, http.MethodPost, path, secret.NewBody(raw), c.countWrite)
	if err != nil {
		return err
	}
	if ans.status != http.StatusNoContent && ans.status != http.StatusOK {
		return statusFault(ans.status)
	}
	return nil
}

// DestroyGrant implements Store.
func (c *Client) DestroyGrant(ctx context.Context, t tenant.ID, id connector.ID) error {
	path, err := GrantPath(c.metaBase(), t, id)
	if err != nil {
		return err
	}
	return c.remove(ctx, path)
}

// list returns the keys below a folder; an absent one is empty.
func (c *Client) list(ctx context.Context, path string) ([]string, error) {
	ans, err := c.call(ctx, "LIST", path+"/", secret.Body{}, func() {})
	if err != nil {
		return nil, err
	}
	if ans.status == http.StatusNotFound && ans.noError {
		return nil, nil
	}
	if ans.status != http.StatusOK {
		return nil, statusFault(ans.status)
	}
	var got struct {
		Keys []string `json:"keys"`
	}
	if err := reshape(ans, &got); err != nil {
		return nil, err
	}
	for i, k := range got.Keys {
		got.Keys[i] = strings.TrimSuffix(k, "/")
	}
	return got.Keys, nil
}

// Tenants implements Store. Keys that no parser accepts are somebody else's.
func (c *Client) Tenants(ctx context.Context) ([]tenant.ID, error) {
	keys, err := c.list(ctx, c.metaBase())
	var out []tenant.ID
	for _, k := range keys {
		if id, err := tenant.ParseID(k); err == nil {
			out = append(out, id)
		}
	}
	return out, err
}

// Connectors implements Store. One that has only a grant is listed too.
func (c *Client) Connectors(ctx context.Context, t tenant.ID) ([]connector.ID, error) {
	path, err := TenantPath(c.metaBase(), t)
	if err != nil {
		return nil, err
	}
	keys, err := c.list(ctx, path)
	var out []connector.ID
	for _, k := range keys {
		if id, err := connector.ParseID(k); err == nil && id.String() == k { // else its path is another one
			out = append(out, id)
		}
	}
	return out, err
}

// Refs implements Store, with one metadata read per bundle.
func (c *Client) Refs(ctx context.Context, t tenant.ID, id connector.ID) ([]Stored, error) {
	path, err := ConnectorPath(c.metaBase(), t, id)
	if err != nil {
		return nil, err
	}
	keys, err := c.list(ctx, path)
	if err != nil {
		return nil, err
	}
	var out []Stored
	for _, k := range keys {
		pin, err := connector.ParsePin(k)
		if err != nil {
			continue
		}
		s := Stored{Ref: connector.SecretRef{Tenant: t, Connector: id, Pin: pin}}
		found, err := c.times(ctx, path+"/"+pin.String(), &s)
		if err != nil {
			return nil, err
		}
		if found {
			out = append(out, s)
		}
	}
	return out, nil
}

// times fills s from a path's metadata; false when it was destroyed meanwhile.
func (c *Client) times(ctx context.Context, path string, s *Stored) (bool, error) {
	ans, err := c.call(ctx, http.MethodGet, path, secret.Body{}, func() {})
	if err != nil {
		return false, err
	}
	if ans.status == http.StatusNotFound && ans.noError {
		return false, nil
	}
	if ans.status != http.StatusOK {
		return false, statusFault(ans.status)
	}
	var got struct {
		Created  time.Time `json:"created_time"`
		Updated  time.Time `json:"updated_time"`
		Versions map[string]struct {
			Deleted   string `json:"deletion_time"`
			Destroyed bool   `json:"destroyed"`
		} `json:"versions"`
	}
	if err := reshape(ans, &got); err != nil {
		return false, err
	}
	s.WrittenAt = got.Created
	for _, v := range got.Versions { // one at most: a path is written once
		if at, err := time.Parse(time.RFC3339Nano, v.Deleted); err == nil {
			s.DeletedAt = at
		} else if v.Destroyed {
			s.DeletedAt = got.Updated
		}
	}
	return true, nil
}
