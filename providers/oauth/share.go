package oauth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// What the fleet shares. A record's name, key and additional data are made from the
// same parts (purpose, tenant, connector, client, grant version), so a record that
// was moved, replayed or written for something else is no record. Each has a key
// of its own, derived by HKDF-SHA256 (RFC 5869), and a random nonce: AES-256-GCM.

// The purposes.
const (
	shareToken  = "token"  // record
	sharePaused = "paused" // record: an outage of the issuer
	shareClaim  = "claim"  // a name without content: who mints
)

// record is what is encrypted.
type record struct {
	Access  string   `json:"a,omitempty"`
	Type    string   `json:"t,omitempty"`
	Issued  int64    `json:"i,omitempty"` // Unix ns
	Expires int64    `json:"e,omitempty"` // Unix ns; 0: no end
	Scopes  []string `json:"s,omitempty"`
	Known   bool     `json:"k,omitempty"` // Scopes are known, if none
	Until   int64    `json:"u,omitempty"` // of a pause, Unix ns
}

// envelope version, so that another format is a miss.
const shareFormat = 1

func parts(f *flight, purpose string, version int64) []byte {
	return joined("patchbay", purpose, f.key.tenant.String(), f.key.connector.String(), string(f.key.client[:]), strconv.FormatInt(version, 10))
}

func nameOf(f *flight, purpose string, version int64) string {
	h := sha256.Sum256(parts(f, purpose, version))
	return base64.RawURLEncoding.EncodeToString(h[:24])
}

// keyring holds the key of the cache for a while.
type keyring struct {
	mu    sync.Mutex
	key   CacheKey
	until time.Time
}

const (
	keyFor      = 5 * time.Minute
	keyRetry    = 15 * time.Second
	keyDeadline = 2 * time.Second
)

// cacheKey returns the key; false: nothing is shared just now. A key that can't be
// read again is kept: what it encrypted is still good.
func (m *Manager) cacheKey(ctx context.Context) (CacheKey, bool) {
	if m.o.Cache == nil || m.o.CacheKey == nil {
		return CacheKey{}, false
	}
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	if now := m.now(); !now.Before(m.keys.until) {
		ctx, cancel := context.WithTimeout(ctx, keyDeadline)
		defer cancel()
		k, err := m.o.CacheKey(ctx)
		if err != nil || k.Key.Len() != 32 || len(k.ID) > 64 {
			m.Stats.SharedErrors.Add(1)
			m.keys.until = now.Add(keyRetry)
		} else {
			m.keys.key, m.keys.until = k, now.Add(keyFor)
		}
	}
	return m.keys.key, m.keys.key.Key.IsSet()
}

// aead is the cipher of one record.
func (k CacheKey) aead(info []byte) (cipher.AEAD, error) {
	sub, err := hkdf.Key(sha256.New, []byte(k.Key.Reveal()), nil, string(info), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal encrypts: format, length of the key's id, id, nonce, ciphertext.
func (k CacheKey) seal(info, plain []byte) ([]byte, error) {
	a, err := k.aead(info)
	if err != nil {
		return nil, err
	}
	out := append([]byte{shareFormat, byte(len(k.ID))}, k.ID...)
	nonce := make([]byte, a.NonceSize())
	_, _ = rand.Read(nonce) // never fails, see its documentation
	return a.Seal(append(out, nonce...), nonce, plain, info), nil
}

// open is the inverse of seal; false for whatever this key didn't seal for info.
func (k CacheKey) open(info, sealed []byte) ([]byte, bool) {
	head := 2 + len(k.ID)
	if len(sealed) < head || sealed[0] != shareFormat || int(sealed[1]) != len(k.ID) || string(sealed[2:head]) != k.ID {
		return nil, false
	}
	a, err := k.aead(info)
	if err != nil || len(sealed) < head+a.NonceSize() {
		return nil, false
	}
	plain, err := a.Open(nil, sealed[head:head+a.NonceSize()], sealed[head+a.NonceSize():], info)
	return plain, err == nil
}

// get reads a record; false: there is none.
func (m *Manager) get(ctx context.Context, f *flight, purpose string, version int64) (r record, ok bool) {
	k, ok := m.cacheKey(ctx)
	if !ok {
		return r, false
	}
	sealed, err := m.o.Cache.GetToken(ctx, f.key.tenant, nameOf(f, purpose, version))
	if err != nil {
		m.Stats.SharedErrors.Add(1)
	}
	if err != nil || sealed == nil {
		return r, false
	}
	plain, ok := k.open(parts(f, purpose, version), sealed)
	return r, ok && json.Unmarshal(plain, &r) == nil
}

// put keeps a record for a while. A fault of the cache costs others a read.
func (m *Manager) put(ctx context.Context, f *flight, purpose string, version int64, r record, live time.Duration) {
	k, ok := m.cacheKey(ctx)
	if !ok || live <= 0 {
		return
	}
	plain, err := json.Marshal(r)
	if err != nil {
		return
	}
	sealed, err := k.seal(parts(f, purpose, version), plain)
	if err == nil {
		err = m.o.Cache.PutToken(ctx, f.key.tenant, nameOf(f, purpose, version), sealed, live)
	}
	if err != nil {
		m.Stats.SharedErrors.Add(1)
	}
}

// endless is how long a token without an end is shared.
const endless = time.Hour

// publish shares a token.
func (m *Manager) publish(ctx context.Context, f *flight, t token) {
	r := record{Access: t.Access.Reveal(), Type: t.Type, Issued: t.issued.UnixNano(), Scopes: t.Scopes, Known: t.Scopes != nil}
	live := endless
	if !t.ExpiresAt.IsZero() {
		r.Expires, live = t.ExpiresAt.UnixNano(), t.ExpiresAt.Sub(m.now())
	}
	m.put(ctx, f, shareToken, t.version, r, live)
}

// load finds a fresh token of a version in the shared cache.
func (m *Manager) load(ctx context.Context, f *flight, version int64) (token, bool) {
	r, ok := m.get(ctx, f, shareToken, version)
	if !ok || r.Access == "" {
		return token{}, false
	}
	t := token{version: version, issued: time.Unix(0, r.Issued)}
	t.Access, t.Type, t.Scopes = secret.New(r.Access), r.Type, r.Scopes
	if r.Known && t.Scopes == nil {
		t.Scopes = []string{}
	}
	if r.Expires != 0 {
		t.ExpiresAt = time.Unix(0, r.Expires)
	}
	if t = m.timed(f.key, t); !t.fresh(version, m.now()) {
		return token{}, false
	}
	m.Stats.SharedHits.Add(1)
	return t, true
}

// counted counts what an issuer did, and tells the fleet of an outage that it
// answered with: else each process would try it once as the lease comes to it. A
// process that is cut off itself must not keep the others from trying.
func (m *Manager) counted(ctx context.Context, f *flight, bad *trouble) {
	m.count(bad)
	if bad.class == outage && bad.said {
		pause := bad.pause(f.tries+1, f.old.life())
		m.put(ctx, f, sharePaused, 0, record{Until: m.now().Add(pause).UnixNano()}, pause)
	}
}

func (m *Manager) count(bad *trouble) {
	switch bad.class {
	case outage:
		m.Stats.Outages.Add(1)
	case refused:
		m.Stats.Refused.Add(1)
	case client:
		m.Stats.ClientRefused.Add(1)
	default:
	}
}

// pausedBy is the outage that another process has met a moment ago.
func (m *Manager) pausedBy(ctx context.Context, f *flight) *trouble {
	r, ok := m.get(ctx, f, sharePaused, 0)
	left := time.Unix(0, r.Until).Sub(m.now())
	if !ok || left <= 0 {
		return nil
	}
	return &trouble{class: paused, code: providers.CodeTokenEndpointDown, after: min(left, afterMost),
		err: fault.New(fault.Unavailable, "the token endpoint has not answered a moment ago")}
}
