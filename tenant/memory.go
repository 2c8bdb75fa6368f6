package tenant

import (
	"crypto/sha256"
	"time"
	"unsafe"

	"github.com/maypok86/otter/v2"
)

// DefaultTokenMemory is the bound of the verified-token memory in bytes.
const DefaultTokenMemory = 16 << 20

// memory remembers good tokens by their SHA-256, bounded in bytes. Only
// verified tokens enter, so a caller can't fill it with made-up ones. The
// cache's own expiry is not used: it would keep a goroutine for ever, while
// Live checks on every read and sweep frees what nobody asks for.
type memory struct {
	cache *otter.Cache[[sha256.Size]byte, *Env]
}

func newMemory(bytes int) *memory {
	return &memory{cache: otter.Must(&otter.Options[[sha256.Size]byte, *Env]{
		MaximumWeight: uint64(bytes),
		Weigher:       func(_ [sha256.Size]byte, e *Env) uint32 { return weight(e) },
	})}
}

// sum hashes the token without copying it; the view doesn't outlive the call.
func sum(token string) [sha256.Size]byte {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(token), len(token))) //nolint:gosec // read only, and []byte(token) would allocate
}

func (m *memory) get(sum [sha256.Size]byte, now time.Time) *Env {
	env, ok := m.cache.GetIfPresent(sum)
	if !ok || !env.Live(now) {
		return nil
	}
	return env
}

func (m *memory) put(sum [sha256.Size]byte, env *Env) { m.cache.Set(sum, env) }

// sweep drops what is no longer live.
func (m *memory) sweep(now time.Time) {
	for sum, env := range m.cache.All() {
		if !env.Live(now) {
			m.cache.Invalidate(sum)
		}
	}
}

// entryOverhead is what an entry costs beside its text: the hash, the cache's
// node and table slot, and the Env itself.
const entryOverhead = sha256.Size + 160 + int(unsafe.Sizeof(Env{}))

func weight(e *Env) uint32 {
	n := entryOverhead + len(e.tenant.s) + len(e.organization.s) + len(e.subject)
	for _, o := range e.organizations {
		n += 16 + len(o.s)
	}
	for _, r := range e.roles {
		n += 16 + len(r)
	}
	return uint32(n + 16*len(e.permissions))
}
