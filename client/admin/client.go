package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client asks an admin API. Its methods are safe for concurrent use.
type Client struct {
	// BaseURL is the control plane's, without a path: "https://connectors.example.com".
	BaseURL string
	// Token returns the JWT to ask with. It is called for each request, so that it can
	// be a new one.
	Token func(ctx context.Context) (string, error)
	// Tenant names the tenant that is meant, for the platform's operator; "" is the
	// token's own.
	Tenant string
	// HTTP is the client to ask with; nil is http.DefaultClient. No request is
	// repeated: see [Once] for those that make something.
	HTTP *http.Client
}

// StaticToken is a token that never changes.
func StaticToken(jwt string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return jwt, nil }
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// Meta is what an answer says beside its body.
type Meta struct {
	Status    int
	ETag      string // of the connector, for If-Match
	Revision  int64  // of the tenant after a write; 0 where there is none
	RequestID string
	// Revocation is what came of a revoke that was asked for: "revoked", or
	// "forgotten_only" where the issuer has no way to end a grant.
	Revocation string
	Replayed   bool // the request of an idempotency key had been carried out before
}

// Problem is an error that the API answered (RFC 9457).
type Problem struct {
	Type      string      `json:"type"`
	Title     string      `json:"title"`
	Status    int         `json:"status"`
	Detail    string      `json:"detail"`
	Code      string      `json:"code"` // stable: "not_found", "stale_version", ...
	RequestID string      `json:"request_id"`
	Errors    []Violation `json:"errors"`
	// RetryAfter is when to come back, zero where nothing was said.
	RetryAfter time.Duration `json:"-"`
}

// Violation is one problem at its place.
type Violation struct {
	Pointer string `json:"pointer"` // into the body, or "/query/NAME", "/path/NAME", "/header/NAME"
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d, request %s): %s", p.Code, p.Status, p.RequestID, p.Detail)
	for _, v := range p.Errors {
		fmt.Fprintf(&b, "; %s %s", v.Pointer, v.Message)
	}
	return b.String()
}

// IsCode tells whether err is a Problem of the given code.
func IsCode(err error, code string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Code == code
}

// Option changes a request.
type Option func(h http.Header)

// IfMatch names the version that is meant, by its ETag; "*" is whatever is there.
func IfMatch(etag string) Option { return func(h http.Header) { h.Set("If-Match", etag) } }

// Once makes a request one that is carried out once within 24 hours, however often
// it is sent. key is random text of 16 to 255 characters.
func Once(key string) Option { return func(h http.Header) { h.Set("Idempotency-Key", key) } }

// RequestID joins the client's log with the server's.
func RequestID(id string) Option { return func(h http.Header) { h.Set("X-Request-ID", id) } }

// body is a request's, with its media type.
type body struct {
	mediaType string
	content   io.Reader
}

func jsonBody(v any) (*body, error) { return encoded("application/json", v) }

func encoded(mediaType string, v any) (*body, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return &body{mediaType, bytes.NewReader(text)}, nil
}

// open asks, and returns an answer that is none of a problem. Its body is the
// caller's to close.
func (c *Client) open(ctx context.Context, method, path string, query url.Values, b *body, options []Option) (*http.Response, Meta, error) {
	to := strings.TrimSuffix(c.BaseURL, "/") + path
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	var content io.Reader
	if b != nil {
		content = b.content
	}
	req, err := http.NewRequestWithContext(ctx, method, to, content)
	if err != nil {
		return nil, Meta{}, fmt.Errorf("make the request: %w", err)
	}
	if b != nil {
		req.Header.Set("Content-Type", b.mediaType)
	}
	if c.Token != nil {
		jwt, err := c.Token(ctx)
		if err != nil {
			return nil, Meta{}, fmt.Errorf("get a token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+jwt)
	}
	if c.Tenant != "" {
		req.Header.Set("X-Tenant-Id", c.Tenant)
	}
	for _, o := range options {
		o(req.Header)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, Meta{}, err
	}
	m := Meta{Status: res.StatusCode, ETag: res.Header.Get("ETag"), RequestID: res.Header.Get("X-Request-ID"), Replayed: res.Header.Get("Idempotency-Replayed") == "true",
		Revocation: res.Header.Get("X-Patchbay-Revocation")}
	m.Revision, _ = strconv.ParseInt(res.Header.Get("X-Patchbay-Revision"), 10, 64) // absent after reads
	if res.StatusCode < 400 {
		return res, m, nil
	}
	defer func() { _ = res.Body.Close() }() // read or given up
	p := &Problem{}
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || json.Unmarshal(text, p) != nil || p.Code == "" {
		// A proxy in between has no problems, only pages.
		p = &Problem{Status: res.StatusCode, Code: "no_problem", Detail: "the answer is not the admin API's: " + res.Status}
	}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
		p.RetryAfter = time.Duration(s) * time.Second
	}
	return nil, m, p
}

// ask is open with a JSON answer.
func ask[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any, options []Option) (T, Meta, error) {
	var out T
	b, ok := in.(*body)
	if !ok && in != nil {
		var err error
		if b, err = jsonBody(in); err != nil {
			return out, Meta{}, err
		}
	}
	res, m, err := c.open(ctx, method, path, query, b, options)
	if err != nil {
		return out, m, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	if res.StatusCode == http.StatusNoContent {
		return out, m, nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&out); err != nil {
		return out, m, fmt.Errorf("read the answer: %w", err)
	}
	return out, m, nil
}

// none is the body of an answer without one.
type none struct{}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func flag(q url.Values, name string, on bool) {
	if on {
		q.Set(name, "true")
	}
}
