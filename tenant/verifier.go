package tenant

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

const (
	// MaxTokenBytes is the longest token that is looked at.
	MaxTokenBytes = 16 << 10
	// Leeway is the clock skew that exp and nbf are given.
	Leeway = 30 * time.Second
	// sweepEvery is how often dead tokens leave the memory.
	sweepEvery = time.Minute
	// latest bounds exp and nbf: 9999-12-31, the last day that RFC 3339 can write.
	latest = 253402300799
)

// VerifierOptions configure a Verifier.
type VerifierOptions struct {
	Issuers []Issuer
	// RoleMap translates role names for every issuer without a map of its own.
	RoleMap map[string][]Permission
	// Clock is the time for exp, nbf and the token memory; nil is time.Now.
	Clock func() time.Time
	// Log receives key changes and failures; nil discards.
	Log *slog.Logger
	// TokenMemory bounds the verified-token memory in bytes; 0 is
	// DefaultTokenMemory, below 0 is none.
	TokenMemory int
	// HTTP fetches key sets; nil is a client that follows few redirects.
	HTTP *http.Client
	// RootCAs are whom that client trusts; nil is the system's. Not with HTTP.
	RootCAs *x509.CertPool
}

// Verifier makes Envs from tokens. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	order   []*issuer
	parser  *jwt.Parser
	memory  *memory
	clock   func() time.Time
}

// issuer is one configured issuer with its keys.
type issuer struct {
	name      string
	algs      map[string]bool
	claims    Claims
	pin       ID
	roleMap   map[string][]Permission
	validator *jwt.Validator
	*refresher
}

// NewVerifier validates the configuration and reads the file sources, so that
// a wrong path shows at start. URLs are not touched: [Verifier.Run] does that.
// Errors: fault.InvalidArgument with a violation per problem.
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	if v := ValidateIssuers(o.Issuers, o.RoleMap); len(v) > 0 {
		return nil, fault.New(fault.InvalidArgument, "the issuers are misconfigured").WithViolations(v...)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HTTP == nil {
		o.HTTP = defaultClient(o.RootCAs)
	}
	v := &Verifier{
		issuers: map[string]*issuer{},
		// Strict decoding: one signed token has one spelling, so the memory
		// can't be filled with variants of the same token.
		parser: jwt.NewParser(jwt.WithStrictDecoding()),
		clock:  o.Clock,
	}
	if o.TokenMemory == 0 {
		o.TokenMemory = DefaultTokenMemory
	}
	if o.TokenMemory > 0 {
		v.memory = newMemory(o.TokenMemory)
	}
	var problems error
	for _, conf := range o.Issuers {
		is := newIssuer(conf, o)
		if !is.remote {
			problems = errors.Join(problems, is.refresh(context.Background()))
		}
		v.issuers[is.name] = is
		v.order = append(v.order, is)
	}
	if problems != nil {
		return nil, fault.New(fault.InvalidArgument, "an issuer's keys cannot be read").WithCause(problems)
	}
	return v, nil
}

func newIssuer(conf Issuer, o VerifierOptions) *issuer {
	src, remote, nameless := newSource(conf, o.HTTP, o.Log)
	is := &issuer{
		name:    conf.Issuer,
		algs:    map[string]bool{},
		claims:  conf.Claims.withDefaults(),
		pin:     ID{conf.Tenant}, // its grammar was validated
		roleMap: o.RoleMap,
		validator: jwt.NewValidator(
			jwt.WithExpirationRequired(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(o.Clock),
			jwt.WithIssuer(conf.Issuer), jwt.WithAudience(conf.Audiences...)),
		refresher: &refresher{
			issuer: conf.Issuer, src: src, remote: remote, nameless: nameless,
			clock: o.Clock, log: o.Log, wake: make(chan struct{}, 1),
		},
	}
	if conf.RoleMap != nil {
		is.roleMap = conf.RoleMap
	}
	for _, a := range conf.Algorithms {
		is.algs[a] = true
	}
	return is
}

// Verify returns the Env of a token. It never waits: keys come from memory,
// and what they lack is fetched in the background by Run. A token that was
// verified before costs one hash and one lookup, without an allocation or an
// exclusive lock. token may alias a buffer that is reused afterwards.
//
// Errors: fault.Unauthenticated for anything wrong with the token or the form
// of its claims; fault.PermissionDenied for a pinned issuer that names another
// tenant and for an organization outside the allowed ones; fault.Unavailable
// while the issuer's keys were never fetched.
func (v *Verifier) Verify(_ context.Context, token string) (*Env, error) {
	switch {
	case token == "":
		return nil, fault.New(fault.Unauthenticated, "a token is required")
	case len(token) > MaxTokenBytes:
		return nil, fault.New(fault.Unauthenticated, "the token is longer than 16 KiB")
	}
	if v.memory == nil {
		return v.verify(token)
	}
	id := sum(token)
	if env := v.memory.get(id, v.clock()); env != nil {
		return env, nil
	}
	env, err := v.verify(token)
	if err != nil {
		return nil, err
	}
	if v.clock().Before(env.expires) {
		v.memory.put(id, env)
	}
	return env, nil
}

func (v *Verifier) verify(token string) (*Env, error) {
	claims := jwt.MapClaims{}
	parsed, _, err := v.parser.ParseUnverified(token, claims)
	if err != nil {
		return nil, rejected("the token is malformed or names an unknown algorithm", err)
	}
	name, err := claims.GetIssuer()
	if err != nil {
		return nil, rejected("the token's issuer is not known", err)
	}
	is, ok := v.issuers[name]
	if !ok {
		return nil, rejected("the token's issuer is not known", nil)
	}
	k, err := is.checkSignature(token, parsed)
	if err != nil {
		return nil, err
	}
	if err := is.validator.Validate(claims); err != nil {
		return nil, rejected(claimsMessage(err), err)
	}
	// A number beyond what a date can hold wraps around: such an nbf would be
	// long past, and the token good, where it says never.
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil || !isDate(exp) {
		return nil, rejected("the token's expiry is malformed", err)
	}
	if nbf, err := claims.GetNotBefore(); err != nil || nbf != nil && !isDate(nbf) {
		return nil, rejected("the token's start of validity is malformed", err)
	}
	env, err := is.makeEnv(claims, exp.Time)
	if err != nil {
		return nil, err
	}
	env.key = k
	return env, nil
}

func isDate(d *jwt.NumericDate) bool { return d.Unix() >= 0 && d.Unix() <= latest }

// checkSignature returns the key that signed the token.
func (is *issuer) checkSignature(token string, parsed *jwt.Token) (*key, error) {
	alg := parsed.Method.Alg()
	if !is.algs[alg] {
		return nil, rejected("the token's algorithm is not allowed", nil)
	}
	// RFC 7515, 4.1.11: an extension that we don't implement makes the token
	// invalid, and we implement none.
	if _, ok := parsed.Header["crit"]; ok {
		return nil, rejected("the token demands an extension that is not supported", nil)
	}
	kid := ""
	if raw, ok := parsed.Header["kid"]; ok {
		if kid, ok = raw.(string); !ok {
			return nil, rejected("the token's key id is malformed", nil)
		}
	}
	set := is.keys.load()
	if set == nil {
		return nil, fault.New(fault.Unavailable, "the keys of the token's issuer were never fetched yet").
			WithRetryAfter(time.Second)
	}
	candidates, unknown := set.find(kid, alg)
	if unknown {
		is.unknownKid()
		return nil, rejected("the token's key is not known", nil)
	}
	signed := token[:strings.LastIndexByte(token, '.')]
	for _, k := range candidates {
		if parsed.Method.Verify(signed, parsed.Signature, k.material) == nil {
			return k, nil
		}
	}
	if kid == "" {
		// A set without kids rotates too, and its new key shows in no other way.
		is.unknownKid()
	}
	return nil, rejected("the token's signature is not valid", nil)
}

func rejected(message string, cause error) error {
	e := fault.New(fault.Unauthenticated, message)
	if cause != nil {
		e = e.WithCause(cause)
	}
	return e
}

// claimsMessage says which registered claim is wrong; the library's own text
// stays private.
func claimsMessage(err error) string {
	for _, m := range []struct {
		is   error
		text string
	}{
		{jwt.ErrTokenExpired, "the token has expired"},
		{jwt.ErrTokenNotValidYet, "the token is not valid yet"},
		{jwt.ErrTokenInvalidAudience, "the token is for another audience"},
		{jwt.ErrTokenRequiredClaimMissing, "the token lacks a required claim (exp, aud)"},
	} {
		if errors.Is(err, m.is) {
			return m.text
		}
	}
	return "the token's claims are malformed"
}

// Run keeps the keys of every issuer current and the memory free of dead
// tokens until ctx ends. It returns nil then; an issuer that can't be reached
// is retried, never an error. Call it once.
func (v *Verifier) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, is := range v.order {
		wg.Go(func() { is.run(ctx) })
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return nil
		case <-tick.C:
			if v.memory != nil {
				v.memory.sweep(v.clock())
			}
		}
	}
}

// Refresh fetches the keys of every issuer once and waits for them, for checks
// of a configuration. The error joins those of the issuers that failed.
func (v *Verifier) Refresh(ctx context.Context) error {
	errs := make([]error, len(v.order))
	var wg sync.WaitGroup
	for i, is := range v.order {
		wg.Go(func() { errs[i] = is.refresh(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// IssuerStatus is an issuer's state for probes.
type IssuerStatus struct {
	Issuer string
	// Ready: keys were fetched at least once. Last good keys count.
	Ready bool
	Keys  int
	// Fetched is when the source last gave keys; zero for never.
	Fetched time.Time
	// Err is why the latest attempt failed, nil when it didn't. For operators.
	Err error
}

// Ready reports every issuer in the order of the configuration.
func (v *Verifier) Ready() []IssuerStatus {
	out := make([]IssuerStatus, 0, len(v.order))
	for _, is := range v.order {
		s := IssuerStatus{Issuer: is.name}
		if set := is.keys.load(); set != nil {
			s.Ready, s.Keys = true, len(set.keys)
		}
		if st := is.state.Load(); st != nil {
			s.Fetched, s.Err = st.fetched, st.err
		}
		out = append(out, s)
	}
	return out
}
