package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
)

const headerMinRevision = "X-Patchbay-Min-Revision"

// authenticate finds out who asks, for which organization, how fresh, and in
// which format.
func (l *Local) authenticate(r *request) error {
	if r.wanted.authorization.times != 1 {
		return fault.New(fault.Unauthenticated, "the request needs one Authorization header with a JWT")
	}
	token := r.wanted.authorization.text
	if i := bytes.IndexByte(token, ' '); i >= 0 {
		if !bytes.EqualFold(token[:i], bearer) {
			return fault.New(fault.Unauthenticated, "the Authorization header must be Bearer with a JWT, or the JWT alone")
		}
		token = bytes.TrimLeft(token[i:], " ")
	}
	if len(token) == 0 {
		return fault.New(fault.Unauthenticated, "the Authorization header has no JWT")
	}
	env, err := l.verify(r, token)
	if err != nil {
		return err
	}
	r.env, r.token = env, token
	// The header and ?organization are one choice: given in both, they could
	// differ, and then each reader picks another.
	organization := r.wanted.organization
	if err := r.query(&organization); err != nil {
		return err
	}
	chosen, err := organization.only("the organization")
	if err != nil {
		return err
	}
	if r.org, err = env.Choose(utils.UnsafeString(chosen)); err != nil {
		return err
	}
	minimum, err := r.wanted.minimum.only(headerMinRevision)
	if err != nil || minimum == nil {
		return err
	}
	// ParseInt takes a sign: digits first.
	for _, d := range minimum {
		if d < '0' || d > '9' {
			return badRevision()
		}
	}
	if r.minimum, err = strconv.ParseInt(string(minimum), 10, 64); err != nil {
		return badRevision()
	}
	return nil
}

// verify asks the Verifier, unless the connection's previous request brought the
// same token.
func (l *Local) verify(r *request, token []byte) (*tenant.Env, error) {
	var previous *caller
	if conn, ok := r.c.Context().Conn().(interface{ caller() *caller }); ok {
		if previous = conn.caller(); previous.is(token, r.began) {
			return previous.env, nil
		}
	}
	env, err := l.o.Verifier.Verify(r.ctx, utils.UnsafeString(token))
	if err == nil && previous != nil {
		previous.set(token, env)
	}
	return env, err
}

var bearer = []byte("Bearer")

func badRevision() error {
	return fault.New(fault.InvalidArgument, headerMinRevision+" must be a revision: a whole number")
}

// only returns the value of a choice, nil when it isn't made.
func (v *value) only(what string) ([]byte, error) {
	switch {
	case v.times == 0:
		return nil, nil
	case v.times > 1:
		return nil, fault.New(fault.InvalidArgument, what+" is given twice")
	case len(v.text) == 0:
		return nil, fault.New(fault.InvalidArgument, what+" is given but empty")
	}
	return v.text, nil
}

// query reads the parameters. One that is unknown is refused: a misspelled
// ?organization would answer for the wrong organization.
func (r *request) query(organization *value) error {
	if len(r.c.Request().URI().QueryString()) == 0 {
		return nil
	}
	var format value
	for k, v := range r.c.Context().QueryArgs().All() {
		switch string(k) {
		case "organization":
			organization.add(v)
		case "format":
			format.add(v)
		default:
			return fault.New(fault.InvalidArgument, "the query has an unknown parameter; organization and format are known")
		}
	}
	f, err := format.only("the format")
	if err != nil || f == nil || string(f) == "json" {
		return err
	}
	return fault.New(fault.NotAcceptable, "this format is not available; use json")
}

// resolve is GET /v1/resolve/{category}.
func (l *Local) resolve(r *request) error {
	if err := l.authenticate(r); err != nil {
		return err
	}
	category, ok := l.o.Categories.Category(r.c.Params("category"))
	if !ok {
		return fault.New(fault.UnknownCategory, "no kind declares this category")
	}
	r.category = category
	slot := resolver.Slot{Tenant: r.env.Tenant(), Organization: r.org, Category: category, Session: l.session(r)}
	a, err := l.o.Resolver.Resolve(r.ctx, slot, r.minimum)
	if lost(slot.Session, err) {
		slot.Session = l.session(r)
		a, err = l.o.Resolver.Resolve(r.ctx, slot, r.minimum)
	}
	if err != nil {
		r.negative = a
		return err
	}
	l.write(r, a)
	return nil
}

// session is the caller's own right to secrets, nil where the process has one.
func (l *Local) session(r *request) resolver.Session {
	if l.o.Sessions == nil {
		return nil
	}
	return l.o.Sessions.Session(utils.UnsafeString(r.token), r.env.ExpiresAt().Add(tenant.Leeway))
}

// lost tells whether a failure may be that of a right which ended on the way: a
// caller whose token still does has another one then.
func lost(s resolver.Session, err error) bool { return err != nil && s != nil && !s.Live() }

// nilUUID (RFC 9562) is well-formed, and no connector's: as unknown as any other
// id that nothing has.
const nilUUID = "00000000-0000-0000-0000-000000000000"

// connector is GET /v1/connectors/{id}.
func (l *Local) connector(r *request) error {
	if err := l.authenticate(r); err != nil {
		return err
	}
	text := r.c.Params("id")
	if text == nilUUID {
		return fault.New(fault.NotFound, "there is no such connector")
	}
	id, err := connector.ParseID(text)
	if err != nil {
		return err
	}
	r.conn = id
	q := resolver.ByID{Tenant: r.env.Tenant(), Organization: r.org, Connector: id, Session: l.session(r)}
	a, err := l.o.Resolver.Connector(r.ctx, q, r.minimum)
	if lost(q.Session, err) {
		q.Session = l.session(r)
		a, err = l.o.Resolver.Connector(r.ctx, q, r.minimum)
	}
	if err != nil {
		r.negative = a
		return err
	}
	l.write(r, a)
	return nil
}

// resolveAll is GET /v1/resolve.
func (l *Local) resolveAll(r *request) error {
	if err := l.authenticate(r); err != nil {
		return err
	}
	slot := resolver.Slot{Tenant: r.env.Tenant(), Organization: r.org, Session: l.session(r)}
	set, err := l.o.Resolver.ResolveAll(r.ctx, slot, r.minimum)
	if (err != nil || len(set.Errors) > 0) && slot.Session != nil && !slot.Session.Live() {
		slot.Session = l.session(r)
		set, err = l.o.Resolver.ResolveAll(r.ctx, slot, r.minimum)
	}
	if err != nil {
		if len(set.Negative) > 0 {
			r.negative = set.Negative[0]
		}
		return err
	}
	a, err := compose(set, r)
	if err != nil {
		return err
	}
	l.write(r, a)
	return nil
}

// compose joins the answers of a set into one. It is as old, as far and as stale
// as its worst part, a negative one too: that nothing else answers is a part of
// what it says. Its ETag covers the parts' and the codes of errors, so that
// it moves exactly when one of them does.
func compose(set resolver.Set, r *request) (resolver.Answer, error) {
	out := resolver.Answer{Source: resolver.FromMemory, Revision: set.Revision}
	worst := func(a resolver.Answer) {
		if rank(a.Source) > rank(out.Source) {
			out.Source = a.Source
		}
		out.Age = max(out.Age, a.Age)
		out.Stale = out.Stale || a.Stale
	}
	for _, a := range set.Negative {
		worst(a)
	}
	var body bytes.Buffer
	sum := sha256.New()
	body.WriteString(`{"backends":{`)
	for i, category := range slices.Sorted(maps.Keys(set.Answers)) {
		a := set.Answers[category]
		if i > 0 {
			body.WriteByte(',')
		}
		// A category's grammar has nothing that JSON would escape.
		body.WriteString(`"` + string(category) + `":`)
		body.Write(a.Body.Reveal())
		sum.Write([]byte("a\x00" + string(category) + "\x00" + a.ETag + "\x00"))
		worst(a)
	}
	problems := make(map[providers.Category]problem.Problem, len(set.Errors))
	for _, category := range slices.Sorted(maps.Keys(set.Errors)) {
		err := set.Errors[category]
		p := problem.Of(err, r.requestID())
		r.broken = r.broken || p.Code == string(fault.Internal)
		r.partial = errors.Join(r.partial, fmt.Errorf("category %s: %w", category, err))
		problems[category] = p
		sum.Write([]byte("e\x00" + string(category) + "\x00" + p.Code + "\x00"))
	}
	text, err := json.Marshal(problems)
	if err != nil {
		return resolver.Answer{}, fault.New(fault.Internal, problem.InternalDetail).WithCause(err)
	}
	body.WriteString(`},"errors":`)
	body.Write(text)
	body.WriteByte('}')
	out.Body = secret.NewBody(body.Bytes())
	out.ETag = `"` + base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:18]) + `"`
	return out, nil
}

func rank(s resolver.Source) int {
	switch s {
	case resolver.FromMemory:
		return 0
	case resolver.FromRedis:
		return 1
	default:
		return 2
	}
}

// write sends an answer, or 304 when the caller holds it. It allocates nothing:
// the body goes out as it is held.
func (l *Local) write(r *request, a resolver.Answer) {
	h := &r.c.Response().Header
	h.SetCanonical(keyETag, utils.UnsafeBytes(a.ETag))
	h.SetCanonical(keyCacheControl, noStore)
	l.tell(r, a)
	if r.wanted.noneMatch && matches(r.c.Request().Header.PeekAll(fiber.HeaderIfNoneMatch), a.ETag) {
		r.c.Status(fiber.StatusNotModified)
		return
	}
	h.SetContentType(fiber.MIMEApplicationJSON)
	r.c.Response().SetBodyRaw(a.Body.Reveal())
}

// tell writes and counts what an answer says of itself, a negative one too: a
// caller that wrote at a revision has to see whether "no default" is older, and
// an operator how much of what is served is stale.
func (l *Local) tell(r *request, a resolver.Answer) {
	r.source = a.Source
	l.sources[rank(a.Source)].Inc()
	h := &r.c.Response().Header
	h.SetCanonical(keySource, utils.UnsafeBytes(string(a.Source)))
	h.SetCanonical(keyAge, strconv.AppendInt(r.scratch[:0], int64(a.Age/time.Second), 10))
	h.SetCanonical(keyRevision, strconv.AppendInt(r.scratch[:0], a.Revision, 10))
	if a.Stale {
		h.SetCanonical(keyStale, yes)
		l.stale.Inc()
	} else {
		h.SetCanonical(keyStale, no)
	}
}

// Names and values of an answer's headers as the server wants them, so that
// nothing is spelled anew for each answer.
var (
	keyETag         = []byte("ETag")
	keyCacheControl = []byte(fiber.HeaderCacheControl)
	keyAge          = []byte(fiber.HeaderAge)
	keySource       = []byte("X-Patchbay-Source")
	keyRevision     = []byte("X-Patchbay-Revision")
	keyStale        = []byte("X-Patchbay-Stale")
	noStore         = []byte("no-store")
	yes, no         = []byte("true"), []byte("false")
)

// matches is If-None-Match (RFC 9110, 13.1.2): a list of tags over any number of
// header lines, compared weakly, or "*".
func matches(lines [][]byte, etag string) bool {
	for _, line := range lines {
		for len(line) > 0 {
			var item []byte
			// Our own tags hold no comma, so cutting at commas splits other
			// people's tags at most, and those never match.
			if i := bytes.IndexByte(line, ','); i >= 0 {
				item, line = line[:i], line[i+1:]
			} else {
				item, line = line, nil
			}
			item = bytes.TrimSpace(item)
			item = bytes.TrimPrefix(item, []byte("W/"))
			if len(item) == 1 && item[0] == '*' || string(item) == strings.TrimPrefix(etag, "W/") {
				return true
			}
		}
	}
	return false
}

// envBody is the answer of /v1/env.
type envBody struct {
	Tenant        string    `json:"tenant"`
	Organization  *string   `json:"organization"`
	Organizations []string  `json:"organizations"`
	Subject       string    `json:"subject"`
	Roles         []string  `json:"roles"`
	ExpiresAt     time.Time `json:"expires_at"`
}

// env is GET /v1/env.
func (l *Local) env(r *request) error {
	if err := l.authenticate(r); err != nil {
		return err
	}
	e := r.env
	b := envBody{
		Tenant: e.Tenant().String(), Organizations: []string{}, Subject: e.Subject(),
		Roles: append([]string{}, e.Roles()...), ExpiresAt: e.ExpiresAt().UTC(),
	}
	if !r.org.IsZero() {
		org := r.org.String()
		b.Organization = &org
	}
	if e.AllOrganizations() {
		b.Organizations = []string{"*"}
	}
	for _, o := range e.Organizations() {
		b.Organizations = append(b.Organizations, o.String())
	}
	text, err := json.Marshal(b)
	if err != nil {
		return fault.New(fault.Internal, problem.InternalDetail).WithCause(err)
	}
	h := &r.c.Response().Header
	h.Set(fiber.HeaderCacheControl, "no-store")
	h.SetContentType(fiber.MIMEApplicationJSON)
	r.c.Response().SetBodyRaw(text)
	return nil
}
