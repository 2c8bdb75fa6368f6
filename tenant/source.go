package tenant

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	maxKeyBytes  = 1 << 20
	fetchTimeout = 5 * time.Second
)

// source is where an issuer's keys come from. A fetch either returns at least
// one usable key or an error; the caller keeps what it has on an error. So a
// set that is empty, that shrank to nothing usable, or that is HTML never
// replaces a good one, while a set that parses with one usable key does: that
// is a rotation, and the keys it left out are revoked.
type source interface {
	fetch(ctx context.Context) ([]*key, error)
}

func newSource(is Issuer, client *http.Client, log *slog.Logger) (src source, remote, nameless bool) {
	algs := is.Algorithms
	asJWKS := func(raw []byte) ([]*key, error) { return parseJWKS(raw, algs) }
	switch {
	case is.JWKSURL != "":
		return urlSource{client: client, url: is.JWKSURL, parse: asJWKS}, true, false
	case is.Discovery != "":
		return discoverySource{client: client, url: is.Discovery, issuer: is.Issuer, parse: asJWKS}, true, false
	case is.JWKSFile != "":
		return fileSource{path: is.JWKSFile, parse: asJWKS}, false, false
	case is.PEMFile != "":
		return fileSource{path: is.PEMFile, parse: func(raw []byte) ([]*key, error) { return parsePEM(raw, algs) }}, false, true
	case is.HMACFile != "":
		warnIfExposed(is, log)
		return fileSource{path: is.HMACFile, parse: func(raw []byte) ([]*key, error) { return parseHMAC(raw, algs) }}, false, true
	default:
		return staticSource{raw: is.JWKS, parse: asJWKS}, false, false
	}
}

// warnIfExposed tells about a shared secret that others on the host can read.
// A warning only: some volumes can't express a narrower mode.
func warnIfExposed(is Issuer, log *slog.Logger) {
	if info, err := os.Stat(is.HMACFile); err == nil && info.Mode().Perm()&0o004 != 0 {
		log.Warn("the issuer's shared secret is readable by everybody: chmod 0640 or stricter",
			"issuer", is.Issuer, "file", is.HMACFile)
	}
}

type staticSource struct {
	raw   []byte
	parse func([]byte) ([]*key, error)
}

func (s staticSource) fetch(context.Context) ([]*key, error) { return s.parse(s.raw) }

type fileSource struct {
	path  string
	parse func([]byte) ([]*key, error)
}

func (s fileSource) fetch(context.Context) ([]*key, error) {
	// Looked at before it is opened: opening a pipe would wait for its writer.
	if info, err := os.Stat(s.path); err != nil {
		return nil, fmt.Errorf("find key file: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("read key file: not a regular file")
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer func() { _ = f.Close() }() // only read from
	raw, err := readBounded(f)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	return s.parse(raw)
}

type urlSource struct {
	client *http.Client
	url    string
	parse  func([]byte) ([]*key, error)
}

func (s urlSource) fetch(ctx context.Context) ([]*key, error) {
	raw, err := get(ctx, s.client, s.url)
	if err != nil {
		return nil, fmt.Errorf("fetch key set: %w", err)
	}
	return s.parse(raw)
}

// discoverySource follows an OpenID provider configuration (OpenID Connect
// Discovery 1.0, section 4). It is read on every refresh: issuers move their
// jwks_uri, and a remembered one would outlive the move.
type discoverySource struct {
	client *http.Client
	url    string
	issuer string
	parse  func([]byte) ([]*key, error)
}

func (s discoverySource) fetch(ctx context.Context) ([]*key, error) {
	raw, err := get(ctx, s.client, s.url)
	if err != nil {
		return nil, fmt.Errorf("fetch provider configuration: %w", err)
	}
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, errors.New("parse provider configuration: not a JSON object")
	}
	// Section 4.3: the names must be identical, else one tenant of a shared
	// provider could hand out the keys of another.
	if doc.Issuer != s.issuer {
		return nil, errors.New("provider configuration names another issuer")
	}
	from, err := url.Parse(s.url)
	if err != nil {
		return nil, fmt.Errorf("parse discovery URL: %w", err)
	}
	to, err := url.Parse(doc.JWKSURI)
	if err != nil || to.Host == "" || (to.Scheme != "https" && to.Scheme != from.Scheme) {
		return nil, errors.New("provider configuration has no jwks_uri that is as safe as itself")
	}
	return urlSource{client: s.client, url: doc.JWKSURI, parse: s.parse}.fetch(ctx)
}

func get(ctx context.Context, client *http.Client, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, errors.New("the issuer did not answer in time"))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := client.Do(req)
	if err != nil {
		// The client's error repeats the URL, and some key servers want an API key
		// in its query.
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	defer func() { _ = res.Body.Close() }() // only read from
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the issuer answered %d", res.StatusCode)
	}
	return readBounded(res.Body)
}

func readBounded(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxKeyBytes+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxKeyBytes {
		return nil, errors.New("more than 1 MiB")
	}
	return raw, nil
}

// defaultClient follows few redirects and none from https to http, where
// anybody on the way could put keys of their own.
func defaultClient(roots *x509.CertPool) *http.Client {
	var transport http.RoundTripper // nil is the default one
	if base, ok := http.DefaultTransport.(*http.Transport); ok && roots != nil {
		own := base.Clone()
		own.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		transport = own
	}
	return &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= 3 {
			return errors.New("too many redirects")
		}
		if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return errors.New("refused a redirect away from https")
		}
		return nil
	}}
}
