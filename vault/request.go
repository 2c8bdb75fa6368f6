package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// maxAnswer bounds what is read of one answer. Vault itself limits a request,
// hence a stored secret, to 32 MiB; a bundle is far smaller.
const maxAnswer = 8 << 20

// The HTTP exchange is our own, over api's types: api.NewClient reads VAULT_*
// and fails on a malformed one, its errors print URL and body, and it holds one
// token where each of our requests must name the one it was made with.

// answer is one HTTP answer of Vault, its body parsed.
type answer struct {
	status int
	secret *api.Secret
	// noError tells the bare 404 of an absent path, {"errors": []}, from that of
	// an absent mount, which has a text. Texts themselves are never kept.
	noError     bool
	casMismatch bool
}

// statusError is the private cause of an unexpected status: no path, no body.
type statusError struct{ status int }

func (e statusError) Error() string { return fmt.Sprintf("vault answered %d", e.status) }

// send makes one request with one token. Errors are classified and sanitised;
// any HTTP status is an answer.
func (c *Client) send(ctx context.Context, token secret.Value, method, path string, body secret.Body) (answer, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return answer{}, tooLate(ctx)
	}
	reqCtx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	var reader io.Reader
	if body.Len() > 0 {
		reader = bytes.NewReader(body.Reveal())
	}
	req, err := http.NewRequestWithContext(reqCtx, method, c.base+"/v1/"+path, reader)
	if err != nil {
		return answer{}, fault.New(fault.Internal, "a Vault request could not be made")
	}
	req.Header.Set("X-Vault-Request", "true") // agents in between refuse requests without it (SSRF)
	if token.IsSet() {
		req.Header.Set("X-Vault-Token", token.Reveal())
	}
	if c.o.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", c.o.Namespace)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, c.transportFault(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or abandoned
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, c.transportFault(ctx, err)
	}
	if len(raw) > maxAnswer {
		return answer{}, fault.New(fault.Unavailable, "Vault's answer is too large")
	}
	return parseAnswer(resp.StatusCode, raw)
}

func parseAnswer(status int, raw []byte) (answer, error) {
	a := answer{status: status}
	if status >= 400 {
		var e struct {
			Errors []string `json:"errors"`
		}
		if json.Unmarshal(raw, &e) == nil {
			a.noError = len(e.Errors) == 0
			for _, text := range e.Errors {
				a.casMismatch = a.casMismatch || strings.Contains(text, "check-and-set")
			}
		}
	}
	// A 404 of KV v2 may carry data: the metadata of a deleted version.
	if status < 300 || status == http.StatusNotFound {
		s, err := api.ParseSecret(bytes.NewReader(raw))
		if err != nil && status < 300 {
			// The parser's text quotes the body.
			return a, fault.New(fault.Unavailable, "what answers at Vault's address is not Vault").WithCause(statusError{status})
		}
		a.secret = s
	}
	return a, nil
}

func tooLate(ctx context.Context) error {
	return fault.New(fault.DeadlineExceeded, "Vault did not answer in time").WithCause(ctx.Err())
}

// transportFault keeps what is known to hold no path and no body: addresses of
// a dial, certificate reasons. net/http's own texts quote the URL, and for a
// malformed answer its bytes.
func (c *Client) transportFault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return tooLate(ctx)
	}
	f := fault.New(fault.Unavailable, "Vault is unreachable")
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Newf(fault.Unavailable, "Vault did not answer within %s", c.o.Timeout)
	case errors.As(err, &op):
		return f.WithCause(op)
	}
	if text := certificateReason(err); text != "" {
		return f.WithCause(errors.New(text))
	}
	return f.WithCause(errors.New("the connection broke"))
}

// statusFault is an answer nobody had a use for.
func statusFault(status int) error {
	f := fault.New(fault.Unavailable, "Vault can't answer").WithCause(statusError{status})
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		f = fault.New(fault.Unavailable, "Vault redirects to another host, which is not followed: name that one as its address").
			WithCause(statusError{status})
	case http.StatusForbidden, http.StatusUnauthorized:
		f = fault.New(fault.Unavailable, "Vault refuses this client").WithCause(statusError{status})
	case http.StatusServiceUnavailable:
		f = fault.New(fault.Unavailable, "Vault is sealed or not active").WithCause(statusError{status})
	case http.StatusTooManyRequests:
		f = fault.New(fault.Unavailable, "Vault limits this client").WithCause(statusError{status})
	}
	return f
}
