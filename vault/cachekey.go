package vault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// cacheKeySize is the length of the key for shared tokens, in bytes: AES-256.
const cacheKeySize = 32

// CacheKey reads the key that tokens shared through Redis are encrypted with. It
// lies at path, below the mount, as field "key": 32 bytes in base64.
//
//	vault kv put secret/patchbay/cache-key key="$(openssl rand -base64 32)"
//
// id is the version, so that writing another key replaces this one.
// Errors: fault.InvalidArgument for what is no such key, fault.NotFound where it
// was deleted, else as [Store].
func (c *Client) CacheKey(ctx context.Context, path string) (id string, key secret.Value, err error) {
	if err := CheckPath(path); err != nil || path == "" {
		return "", secret.Value{}, fault.New(fault.InvalidArgument, "the cache key's path is not usable")
	}
	ans, err := c.call(ctx, http.MethodGet, c.o.Mount+"/data/"+path, secret.Body{}, func() {})
	if err != nil {
		return "", secret.Value{}, err
	}
	var v version
	switch err := reshape(ans, &v); {
	case err != nil:
		return "", secret.Value{}, err
	case v.empty() && v.gone():
		return "", secret.Value{}, fault.New(fault.NotFound, "the cache key was deleted")
	case ans.status != http.StatusOK || v.empty() || v.Metadata == nil:
		return "", secret.Value{}, statusFault(ans.status)
	}
	var fields struct {
		Key string `json:"key"`
	}
	if json.Unmarshal(v.Data, &fields) != nil {
		fields.Key = "" // the decoder's text may quote a value; what is missing is said below
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(fields.Key))
	if err != nil || len(raw) != cacheKeySize {
		return "", secret.Value{}, fault.New(fault.InvalidArgument,
			"the cache key must be a field named key with 32 bytes in base64 (openssl rand -base64 32)")
	}
	return "v" + strconv.FormatInt(v.Metadata.Version, 10), secret.New(string(raw)), nil
}
