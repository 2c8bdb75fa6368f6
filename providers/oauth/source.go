package oauth

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// Source implements connector.Tokens.
func (m *Manager) Source(ref connector.GrantRef, app providers.OAuthApp) providers.TokenSource {
	if app.Flow != providers.FlowConsent {
		ref.GrantVersion = 0 // a consent of before, when the connector was configured otherwise
	}
	return &source{m: m, key: keyOf(ref, app), ref: ref, app: app}
}

type source struct {
	m   *Manager
	key key
	ref connector.GrantRef
	app providers.OAuthApp
}

// entry is what is known of a key.
type entry struct {
	mu     sync.Mutex
	held   token
	flight *flight // nil: none
	failed failure
	used   time.Time
}

// flight is one way to a new token, detached from who waits for it.
type flight struct {
	key   key
	ref   connector.GrantRef
	app   providers.OAuthApp
	old   token // held when it began
	prove bool  // see Manager.Prove
	// tries is how many flights before it have failed.
	tries int

	done chan struct{} // closed at its end, after token and err are set
	tok  token
	err  *trouble

	// stuck is closed, after stuckBy is set, when the flight goes on but nobody should
	// wait for it any longer.
	stuck   chan struct{}
	stuckBy *trouble
}

// failure is why the last flight brought no token, and until when none is tried.
type failure struct {
	by    *trouble
	until time.Time
	count int
	ref   connector.GrantRef // what it was found out about
}

// Token implements providers.TokenSource.
func (s *source) Token(ctx context.Context) (providers.Token, error) {
	if s.app.Flow == providers.FlowConsent && s.ref.GrantVersion == 0 {
		// The database knows of no consent. What is held is of one that was ended.
		s.m.mu.Lock()
		delete(s.m.entries, s.key)
		s.m.mu.Unlock()
		return providers.Token{}, noConsent().error(0)
	}
	for range turns {
		t, f, err := s.look()
		if f == nil {
			return t.Token, err
		}
		select {
		case <-f.done:
		case <-f.stuck:
			return providers.Token{}, f.stuckBy.error(time.Second)
		case <-ctx.Done():
			return providers.Token{}, late(ctx)
		}
		switch {
		case f.err == nil && f.tok.serves(s.ref.GrantVersion, s.m.now()):
			return f.tok.Token, nil
		case f.err != nil && answers(f.ref, s.ref):
			return providers.Token{}, f.err.error(s.m.wait(s.key))
		}
		// It was for a client or a grant of before; the next is our own.
	}
	return providers.Token{}, storage("no access token lasted until it could be used").error(time.Second)
}

// turns bounds how often a caller goes for a token: another's flight, its own, and
// one more for a token that ended on its way.
const turns = 3

// answers tells whether what failed with one reference fails with another: a new
// secret or a new consent deserves a try.
func answers(failed, asked connector.GrantRef) bool {
	return failed.Pin == asked.Pin && failed.GrantVersion >= asked.GrantVersion
}

// late is the error of a caller whose time was up before there was a token.
func late(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &providers.TokenError{Code: providers.CodeCancelled, Err: fault.New(fault.DeadlineExceeded, "nobody waits for the access token any more")}
	}
	return &providers.TokenError{Code: providers.CodeTimeout, Err: fault.New(fault.DeadlineExceeded, "there was no access token in time")}
}

// look returns the token to serve, or the flight to wait for, or why there is none.
// A held token that is due is returned, and its renewal begun.
func (s *source) look() (token, *flight, error) {
	e := s.m.entry(s.key)
	e.mu.Lock()
	defer e.mu.Unlock()
	now := s.m.now()
	e.used = now
	usable := e.held.serves(s.ref.GrantVersion, now)
	if usable && !e.held.due(now) {
		return e.held, nil, nil
	}
	if e.flight == nil {
		if f := e.failed; f.by != nil && now.Before(f.until) && answers(f.ref, s.ref) {
			if usable {
				return e.held, nil, nil
			}
			return token{}, nil, f.by.error(f.until.Sub(now))
		}
		if !s.m.begin(e, s) {
			if usable {
				return e.held, nil, nil
			}
			return token{}, nil, ending().error(time.Second)
		}
	}
	if usable {
		return e.held, nil, nil
	}
	return token{}, e.flight, nil
}

// wait is how long nobody should ask again after a failure.
func (m *Manager) wait(k key) time.Duration {
	e := m.entry(k)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failed.until.Sub(m.now())
}

// begin starts a flight of e, whose lock is held; false once the Manager closes.
func (m *Manager) begin(e *entry, s *source) bool {
	m.mu.Lock()
	if m.closing {
		m.mu.Unlock()
		return false
	}
	m.work.Add(1)
	m.mu.Unlock()
	f := &flight{key: s.key, ref: s.ref, app: s.app, old: e.held, tries: e.failed.count, done: make(chan struct{}), stuck: make(chan struct{})}
	e.flight = f
	go func() {
		defer m.work.Done()
		begun := m.now()
		f.tok, f.err = m.fly(f)
		m.land(e, f, begun)
		close(f.done)
	}()
	return true
}

// fly makes a token. A panic is an error of this flight alone.
func (m *Manager) fly(f *flight) (t token, bad *trouble) {
	defer func() {
		if recover() != nil {
			// What a panic says may hold anything.
			t, bad = token{}, &trouble{class: ours, code: providers.CodeInternal, err: fault.New(fault.Internal, "the access token could not be made")}
		}
	}()
	if f.app.Flow == providers.FlowConsent {
		return m.refresh(f)
	}
	return m.mint(f)
}

// land puts a flight's result into its entry.
func (m *Manager) land(e *entry, f *flight, begun time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flight = nil
	now := m.now()
	log := m.o.Log.With("tenant", f.ref.Tenant.String(), "connector", f.ref.Connector.String())
	if f.err == nil {
		e.held, e.failed = f.tok, failure{}
		log.Debug("an access token is at hand", "duration_ms", now.Sub(begun).Milliseconds())
		return
	}
	e.failed = failure{by: f.err, until: now.Add(f.err.pause(f.tries+1, e.held.life())), count: f.tries + 1, ref: f.ref}
	if f.err.class == refused {
		e.held = token{} // a clear answer takes effect at once
	}
	if m.ctx.Err() == nil {
		log.Warn("there is no new access token", "code", string(f.err.code), "duration_ms", now.Sub(begun).Milliseconds())
	}
}

// entry returns a key's entry, making one where there is none.
func (m *Manager) entry(k key) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[k]
	if !ok {
		if len(m.entries) >= m.o.MaxTokens {
			m.evict()
		}
		e = &entry{used: m.now()}
		m.entries[k] = e
	}
	return e
}

// evict drops the entry that was used longest ago of a few that the map's order
// puts first: nearly as good as the oldest of all, and no list to keep.
func (m *Manager) evict() {
	var oldest key
	var at time.Time
	seen := 0
	for k, e := range m.entries {
		if !e.mu.TryLock() {
			continue // in use
		}
		if e.flight == nil {
			if seen == 0 || e.used.Before(at) {
				oldest, at = k, e.used
			}
			seen++
		}
		e.mu.Unlock()
		if seen >= 16 {
			break
		}
	}
	if seen > 0 {
		delete(m.entries, oldest)
	}
}

// forget drops what is held of some keys. Flights under way go on, and what they
// bring is nobody's.
func (m *Manager) forget(which func(key) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.entries {
		if which(k) {
			delete(m.entries, k)
		}
	}
}

// jittered is d, less up to half of it.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) } //nolint:gosec // G404: a delay is no secret
