package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver"
)

const (
	headerOrganization = "X-Organization-Id"
	headerMinRevision  = "X-Patchbay-Min-Revision"
	headerSource       = "X-Patchbay-Source"
	headerRevision     = "X-Patchbay-Revision"
	headerStale        = "X-Patchbay-Stale"
)

// authenticate finds out who asks, for which organization, and how fresh.
func (l *Local) authenticate(r *request) error {
	h := &r.c.Request().Header
	given := h.PeekAll(fiber.HeaderAuthorization)
	if len(given) != 1 {
		return fault.New(fault.Unauthenticated, "the request needs one Authorization header with a JWT")
	}
	token := given[0]
	if i := bytes.IndexByte(token, ' '); i >= 0 {
		if !bytes.EqualFold(token[:i], []byte("Bearer")) {
			return fault.New(fault.Unauthenticated, "the Authorization header must be Bearer with a JWT, or the JWT alone")
		}
		token = bytes.TrimLeft(token[i:], " ")
	}
	if len(token) == 0 {
		return fault.New(fault.Unauthenticated, "the Authorization header has no JWT")
	}
	env, err := l.o.Verifier.Verify(r.ctx, utils.UnsafeString(token))
	if err != nil {
		return err
	}
	r.env = env
	chosen, err := one(h.PeekAll(headerOrganization), r.queryAll("organization"), "the organization")
	if err != nil {
		return err
	}
	if r.org, err = env.Choose(utils.UnsafeString(chosen)); err != nil {
		return err
	}
	minimum, err := one(h.PeekAll(headerMinRevision), nil, headerMinRevision)
	if err != nil || minimum == nil {
		return err
	}
	// ParseUint would take no sign but lets an error keep the text; digits first.
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

func badRevision() error {
	return fault.New(fault.InvalidArgument, headerMinRevision+" must be a revision: a whole number")
}

// queryAll returns all values of a query parameter; nil without allocating when
// there is no query.
func (r *request) queryAll(name string) [][]byte {
	if len(r.c.Request().URI().QueryString()) == 0 {
		return nil
	}
	return r.c.Context().QueryArgs().PeekMulti(name)
}

// one returns the only value of a choice that may be made in two places, nil
// when it isn't made. Two could differ, and then each reader picks another.
func one(a, b [][]byte, what string) ([]byte, error) {
	switch len(a) + len(b) {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, fault.New(fault.InvalidArgument, what+" is given twice")
	}
	v := append(a, b...)[0]
	if len(v) == 0 {
		return nil, fault.New(fault.InvalidArgument, what+" is given but empty")
	}
	return v, nil
}

// acceptable checks ?format. Only JSON is made here.
func (r *request) acceptable() error {
	f, err := one(r.queryAll("format"), nil, "the format")
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
	if err := r.acceptable(); err != nil {
		return err
	}
	a, err := l.o.Resolver.Resolve(r.ctx, resolver.Slot{Tenant: r.env.Tenant(), Organization: r.org, Category: category}, r.minimum)
	if err != nil {
		return err
	}
	l.write(r, a)
	return nil
}

// connector is GET /v1/connectors/{id}.
func (l *Local) connector(r *request) error {
	if err := l.authenticate(r); err != nil {
		return err
	}
	id, err := connector.ParseID(r.c.Params("id"))
	if err != nil {
		return err
	}
	r.conn = id
	if err := r.acceptable(); err != nil {
		return err
	}
	a, err := l.o.Resolver.Connector(r.ctx, resolver.ByID{Tenant: r.env.Tenant(), Organization: r.org, Connector: id}, r.minimum)
	if err != nil {
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
	if err := r.acceptable(); err != nil {
		return err
	}
	set, err := l.o.Resolver.ResolveAll(r.ctx, resolver.Slot{Tenant: r.env.Tenant(), Organization: r.org}, r.minimum)
	if err != nil {
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
// as its worst part. Its ETag covers the parts' and the codes of errors, so that
// it moves exactly when one of them does.
func compose(set resolver.Set, r *request) (resolver.Answer, error) {
	out := resolver.Answer{Source: resolver.FromMemory, Revision: set.Revision}
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
		if rank(a.Source) > rank(out.Source) {
			out.Source = a.Source
		}
		out.Age = max(out.Age, a.Age)
		out.Stale = out.Stale || a.Stale
	}
	problems := make(map[providers.Category]Problem, len(set.Errors))
	for _, category := range slices.Sorted(maps.Keys(set.Errors)) {
		p := problemOf(set.Errors[category], r.requestID())
		problems[category] = p
		sum.Write([]byte("e\x00" + string(category) + "\x00" + p.Code + "\x00"))
	}
	text, err := json.Marshal(problems)
	if err != nil {
		return resolver.Answer{}, fault.New(fault.Internal, internalDetail).WithCause(err)
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
	r.source = a.Source
	l.sources[string(a.Source)].Inc()
	h := &r.c.Response().Header
	h.Set(fiber.HeaderETag, a.ETag)
	h.Set(fiber.HeaderCacheControl, "no-store")
	h.Set(headerSource, string(a.Source))
	h.SetBytesV(fiber.HeaderAge, strconv.AppendInt(r.scratch[:0], int64(a.Age/time.Second), 10))
	h.SetBytesV(headerRevision, strconv.AppendInt(r.scratch[:0], a.Revision, 10))
	if a.Stale {
		h.Set(headerStale, "true")
		l.stale.Inc()
	} else {
		h.Set(headerStale, "false")
	}
	if matches(r.c.Request().Header.PeekAll(fiber.HeaderIfNoneMatch), a.ETag) {
		r.c.Status(fiber.StatusNotModified)
		return
	}
	h.SetContentType(fiber.MIMEApplicationJSON)
	r.c.Response().SetBodyRaw(a.Body.Reveal())
}

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
	if err := r.acceptable(); err != nil {
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
		return fault.New(fault.Internal, internalDetail).WithCause(err)
	}
	h := &r.c.Response().Header
	h.Set(fiber.HeaderCacheControl, "no-store")
	h.SetContentType(fiber.MIMEApplicationJSON)
	r.c.Response().SetBodyRaw(text)
	return nil
}
