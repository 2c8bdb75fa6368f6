package vault

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// maxCallers bounds the callers that are remembered. One that falls out logs in
// again: that costs a request, not an answer.
const maxCallers = 16 << 10

// Callers reads secrets with the callers' own rights: each JWT is exchanged for a
// Vault token at the JWT auth method, and what that token may not read, the
// process can't either. It holds no right of its own, renews nothing and asks
// nothing in the background.
//
// What it needs of Vault: a role whose bound audiences and claims fit the app's
// JWTs and whose policy is templated by their tenant. Batch tokens fit best:
// Vault stores none.
type Callers struct {
	c        *Client
	sessions *otter.Cache[[sha256.Size]byte, *Session]
	last     atomic.Uint64
}

// OpenCallers checks the options, whose auth method is AuthCallerJWT. It does no
// I/O. Errors: fault.InvalidArgument, with a violation per problem.
func OpenCallers(ctx context.Context, o Options) (*Callers, error) {
	c, err := newClient(ctx, o)
	if err != nil {
		return nil, err
	}
	sessions, err := otter.New(&otter.Options[[sha256.Size]byte, *Session]{
		MaximumSize: maxCallers,
		// One that falls out ends, so that whoever else holds it lets go: made-up or
		// one-time tokens must not pile up until they expire.
		OnDeletion: func(e otter.DeletionEvent[[sha256.Size]byte, *Session]) { e.Value.end() },
	})
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "the memory for callers cannot be made").WithCause(err)
	}
	return &Callers{c: c, sessions: sessions}, nil
}

// Session returns the caller's session: the one that this JWT has, or a new one
// where it has none that lives. It does no I/O. jwt is a verified token that ends
// at until; the result does not alias it.
func (cs *Callers) Session(jwt string, until time.Time) *Session {
	key := sha256.Sum256([]byte(jwt))
	if s, ok := cs.sessions.GetIfPresent(key); ok && s.Live() {
		return s
	}
	s, _ := cs.sessions.Compute(key, func(old *Session, found bool) (*Session, otter.ComputeOp) {
		if found && old.Live() {
			return old, otter.CancelOp
		}
		return &Session{c: cs.c, id: cs.last.Add(1), jwt: secret.New(string([]byte(jwt))), until: until}, otter.WriteOp
	})
	return s
}

// Read refuses: without a caller there is no right to any secret.
func (cs *Callers) Read(context.Context, connector.SecretRef) (Bundle, error) {
	return Bundle{}, fault.New(fault.Unavailable, "secrets are read with a caller's own token only")
}

// Ready returns nil when Vault answers and is unsealed. There is no login to
// wait for.
func (cs *Callers) Ready(ctx context.Context) error {
	// sys/health needs no token; 429 and 473 are standbys, which forward.
	ans, err := cs.c.send(ctx, secret.Value{}, http.MethodGet, "sys/health", secret.Body{})
	switch {
	case err != nil:
		return err
	case ans.status == http.StatusOK, ans.status == http.StatusTooManyRequests, ans.status == 473:
		return nil
	default:
		return statusFault(ans.status)
	}
}

// Client is the client underneath, for its counters.
func (cs *Callers) Client() *Client { return cs.c }

// Close forgets every session.
func (cs *Callers) Close() error {
	for _, s := range cs.sessions.All() {
		s.end()
	}
	cs.sessions.InvalidateAll()
	return cs.c.Close()
}

// Session is one caller's right to secrets: one JWT and, once it was needed, the
// one Vault token that it was exchanged for. It ends with either of them, for
// good; a caller who still has a good JWT gets another Session. It is safe for
// concurrent use.
type Session struct {
	c     *Client
	id    uint64
	jwt   secret.Value
	until time.Time

	held  atomic.Pointer[lease]
	ended atomic.Bool

	mu      sync.Mutex
	flight  chan struct{} // closed when the login under way ends; nil when none is
	err     error         // of the last login
	retryAt time.Time     // no login before this
}

// ID tells Sessions apart for as long as the process lives; never 0.
func (s *Session) ID() uint64 { return s.id }

// Live tells whether what was read with this session may still be used.
func (s *Session) Live() bool {
	now := s.c.o.Clock()
	if s.ended.Load() || !now.Before(s.until) {
		return false
	}
	l := s.held.Load()
	return l == nil || l.expires.IsZero() || now.Before(l.expires)
}

func (s *Session) end() { s.ended.Store(true) }

// Read returns the bundle at ref's path, read with the caller's right.
// Errors: as Store.Read; fault.Unavailable also where Vault does not accept the
// caller's JWT, since its answer does not tell a bad token from a bad role.
//
// A 403 ends the session when Vault has taken its token back; the next one logs
// in again. Else it is Vault's word on the path, and concerns that path alone.
func (s *Session) Read(ctx context.Context, ref connector.SecretRef) (Bundle, error) {
	path, err := BundlePath(s.c.dataBase(), ref)
	if err != nil {
		return Bundle{}, err
	}
	b, _, _, err := s.c.latestBy(ctx, path, s.call)
	return b, err
}

func (s *Session) call(ctx context.Context, method, path string, body secret.Body, count func()) (answer, error) {
	if ctx.Err() != nil {
		return answer{}, tooLate(ctx)
	}
	l, err := s.token(ctx)
	if err != nil {
		return answer{}, err
	}
	count()
	ans, err := s.c.send(ctx, l.token, method, path, body)
	if err == nil && ans.status == http.StatusForbidden {
		s.c.refusals.Add(1)
		if s.c.o.Clock().Sub(l.issued) > refusedFor && s.takenBack(ctx, l) {
			s.end()
		}
		return answer{}, statusFault(http.StatusForbidden)
	}
	return ans, err
}

// takenBack asks whether Vault still knows the token. The default policy lets
// every token ask that of itself; without it, a refusal counts as one of the token.
func (s *Session) takenBack(ctx context.Context, l *lease) bool {
	ans, err := s.c.send(ctx, l.token, http.MethodGet, "auth/token/lookup-self", secret.Body{})
	return err == nil && ans.status == http.StatusForbidden
}

// token is the session's Vault token. Callers share a login; one that failed is
// not tried again at once, so that a JWT that Vault refuses costs it little.
func (s *Session) token(ctx context.Context) (*lease, error) {
	if l := s.held.Load(); l != nil {
		return l, nil
	}
	s.mu.Lock()
	if l := s.held.Load(); l != nil {
		s.mu.Unlock()
		return l, nil
	}
	if s.flight == nil && s.err != nil && s.c.o.Clock().Before(s.retryAt) {
		defer s.mu.Unlock()
		return nil, s.err
	}
	flight := s.flight
	if flight == nil {
		if s.c.ctx.Err() != nil {
			s.mu.Unlock()
			return nil, fault.New(fault.Unavailable, "the process is leaving")
		}
		flight = make(chan struct{})
		s.flight = flight
		// Not a caller's context: the login serves all that wait for it.
		s.c.work.Go(func() { s.login(flight) })
	}
	s.mu.Unlock()
	select {
	case <-flight:
	case <-ctx.Done():
		return nil, tooLate(ctx)
	}
	if l := s.held.Load(); l != nil {
		return l, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return nil, s.err
}

func (s *Session) login(flight chan struct{}) {
	l, err := s.logIn(s.c.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.c.logins.Add(1)
		s.held.Store(l)
	} else {
		s.c.loginFailures.Add(1)
		wait := s.c.o.BackoffMin
		if errors.Is(err, errRefused) {
			wait = refusedFor
		}
		s.retryAt = s.c.o.Clock().Add(wait)
	}
	s.err, s.flight = err, nil
	close(flight)
}

// logIn exchanges the JWT (developer.hashicorp.com/vault/api-docs/auth/jwt).
func (s *Session) logIn(ctx context.Context) (*lease, error) {
	fields := map[string]string{"jwt": s.jwt.Reveal()}
	if role := s.c.o.Auth.Role; role != "" {
		fields["role"] = role
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, fault.New(fault.Internal, "a login could not be serialised")
	}
	begun := s.c.o.Clock()
	ans, err := s.c.send(ctx, secret.Value{}, http.MethodPost, "auth/"+s.c.o.Auth.MountPath+"/login", secret.NewBody(raw))
	switch {
	case err != nil:
		return nil, err
	case ans.status == http.StatusBadRequest || ans.status == http.StatusForbidden || ans.status == http.StatusUnauthorized:
		return nil, fault.New(fault.Unavailable, "Vault does not accept this caller's token").WithCause(refused{statusError{ans.status}})
	case ans.status != http.StatusOK:
		return nil, statusFault(ans.status)
	}
	return leaseOf(ans.secret, 0, begun)
}
