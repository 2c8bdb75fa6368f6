package oauth

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

const (
	// A token's moment of renewal lies between these parts of its life.
	renewFrom, renewTo = 0.70, 0.85
	// assumedLife is that of tokens whose issuer states none, where a new one can be
	// had without a person.
	assumedLife = time.Hour
	// longestLife bounds what an issuer may state.
	longestLife = 10 * 365 * 24 * time.Hour
)

// allowance is what is taken off a life, for clocks of a fleet that differ and for
// the request that the token is sent with: 2 %, at most 10 s.
func allowance(life time.Duration) time.Duration { return min(life/50, 10*time.Second) }

// key addresses held tokens. client tells apart what one connector's tokens are
// minted with: a token of another client, scope or subject is another token.
type key struct {
	tenant    tenant.ID
	connector connector.ID
	client    [sha256.Size]byte
}

// keyOf is the key of what ref and app lead to. A consent's scopes are the grant's,
// and its secret may be replaced without ending the grant's tokens; of minted
// tokens both are part of what they are.
func keyOf(ref connector.GrantRef, app providers.OAuthApp) key {
	parts := []string{string(app.Flow), app.ClientID, app.TokenURL}
	if app.Flow != providers.FlowConsent {
		parts = append(parts, ref.Pin.String(), strings.Join(app.Scopes, " "))
		for _, name := range slices.Sorted(maps.Keys(app.TokenParams)) {
			parts = append(parts, name, app.TokenParams[name])
		}
		if a := app.Assertion; a != nil {
			parts = append(parts, a.Issuer, a.Subject, a.Audience, a.KeyID)
		}
	}
	return key{tenant: ref.Tenant, connector: ref.Connector, client: sha256.Sum256(joined(parts...))}
}

// joined writes parts so that no two lists give the same bytes.
func joined(parts ...string) (b []byte) {
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// token is an access token as a process holds it.
type token struct {
	providers.Token

	version int64 // of the grant; 0 of minted tokens
	issued  time.Time
}

// life is the time between issue and end, 0 when it has no end.
func (t token) life() time.Duration {
	if t.ExpiresAt.IsZero() {
		return 0
	}
	return t.ExpiresAt.Sub(t.issued)
}

// serves tells whether the token may be given to who knows of a grant version.
func (t token) serves(minimum int64, now time.Time) bool {
	return t.Access.IsSet() && t.version >= minimum && (t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt))
}

// due tells whether a new one should be at hand.
func (t token) due(now time.Time) bool { return !t.RefreshAt.IsZero() && !now.Before(t.RefreshAt) }

// fresh is a token that needs no renewal yet.
func (t token) fresh(minimum int64, now time.Time) bool {
	return t.serves(minimum, now) && !t.due(now)
}

// timed sets when this process renews the token. The moment is drawn from process
// and token, not at random: a token that is read again must not become young again.
func (m *Manager) timed(k key, t token) token {
	life := t.life()
	if life <= 0 {
		t.RefreshAt = time.Time{}
		return t
	}
	h := sha256.Sum256(joined(m.owner, k.connector.String(), string(k.client[:]), t.issued.UTC().Format(time.RFC3339Nano)))
	part := float64(binary.BigEndian.Uint32(h[:])) / (1 << 32)
	t.RefreshAt = t.issued.Add(time.Duration(float64(life) * (renewFrom + (renewTo-renewFrom)*part)))
	return t
}

// answer is what a token endpoint gave.
type answer struct {
	access, refresh secret.Value // refresh is the one that was sent where none came
	kind            string
	scopes          []string
	begun           time.Time     // before the request
	life            time.Duration // 0: not stated
	replaced        bool          // another refresh token than the one sent
}

// token is the answer's, of a grant version. renewable: one more can be had
// without a person.
func (a answer) token(version int64, renewable bool) token {
	t := token{version: version, issued: a.begun}
	t.Access, t.Type, t.Scopes = a.access, a.kind, a.scopes
	life := a.life
	if life == 0 && renewable {
		life = assumedLife
	}
	if life > 0 {
		t.ExpiresAt = a.begun.Add(life - allowance(life))
	}
	return t
}
