package providers

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// responseLimit is how much of a vendor's answer is read. The answers that a
// test looks at have a few KiB.
const responseLimit = 1 << 20

// Response is a vendor's answer, read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte // at most 1 MiB
}

// JSON decodes the body into v. It fails for HTML, for a cut-off body, and for
// anything after the value; no error repeats the body.
func (r Response) JSON(v any) error {
	d := json.NewDecoder(strings.NewReader(string(r.Body)))
	if err := d.Decode(v); err != nil {
		return errors.New("the answer is not the JSON that is documented")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the answer is not the JSON that is documented")
	}
	return nil
}

// Call sends a request and reads the answer. ok is false where there is no
// answer to look at, or one that no vendor's API gives: then o is the step's
// outcome (network faults, a redirect, a body without end, a server that wants
// TLS). Every other status is the caller's to judge.
func Call(client *http.Client, req *http.Request) (r Response, o Outcome, ok bool) {
	res, err := client.Do(req) //nolint:gosec // G704: the transport is the egress policy's, which judges every address
	if err != nil {
		return Response{}, NetworkOutcome(err), false
	}
	defer func() { _ = res.Body.Close() }() // only read from
	if res.StatusCode >= 300 && res.StatusCode < 400 && res.StatusCode != http.StatusNotModified {
		return Response{}, Failed(CodeRedirected, ""), false
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, responseLimit+1))
	if err != nil {
		return Response{}, NetworkOutcome(err), false
	}
	if len(body) > responseLimit {
		return Response{}, Failed(CodeTooLarge, ""), false
	}
	if o, wants := WantsTLS(res.StatusCode, body); wants && req.URL.Scheme == "http" {
		return Response{}, o, false
	}
	return Response{Status: res.StatusCode, Header: res.Header, Body: body}, Outcome{}, true
}

// WantsTLS tells whether an answer to a request over http is the complaint of a
// server with TLS, in the words of Go ("Client sent an HTTP request to an HTTPS
// server."), nginx ("The plain HTTP request was sent to HTTPS port") or Apache
// ("You're speaking plain HTTP to an SSL-enabled server port."), and gives the
// step's outcome then. The status alone has many other reasons.
func WantsTLS(status int, body []byte) (Outcome, bool) {
	if status != http.StatusBadRequest {
		return Outcome{}, false
	}
	text := strings.ToLower(string(body[:min(len(body), 1<<10)]))
	for _, words := range []string{"http request to an https server", "plain http request was sent to https port", "plain http to an ssl-enabled server"} {
		if strings.Contains(text, words) {
			return Failed(CodeTLSWrongMode, "The server expects TLS at this port, and is spoken to without. Use https."), true
		}
	}
	return Outcome{}, false
}

// Request makes a request whose URL is base + path. It never fails for a base
// that the schema or the operator's config has checked; otherwise the outcome
// says that the config is wrong.
func Request(ctx context.Context, method, url string, body io.Reader) (*http.Request, Outcome, bool) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, Failed(CodeConfigIncomplete, "The address that the config leads to is not a URL."), false
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "patchbay")
	return req, Outcome{}, true
}

// StatusOutcome judges the statuses that mean the same at every vendor: 429,
// 5xx, and what is left. 401 and 403 are not among them.
func StatusOutcome(r Response) Outcome {
	switch {
	case r.Status == http.StatusTooManyRequests:
		return Failed(CodeRateLimited, retryHint(r.Header.Get("Retry-After")))
	case r.Status >= 500:
		return Failed(CodeVendorError, "")
	default:
		return Failed(CodeUnexpectedStatus, "The server answered with status "+statusText(r.Status)+".")
	}
}

func statusText(code int) string {
	digits := []byte{byte('0' + code/100%10), byte('0' + code/10%10), byte('0' + code%10)}
	if text := http.StatusText(code); text != "" {
		return string(digits) + " (" + text + ")"
	}
	return string(digits)
}

// retryHint repeats a Retry-After in seconds; a date or anything else is left out.
func retryHint(after string) string {
	if after == "" || len(after) > 6 || strings.Trim(after, "0123456789") != "" {
		return ""
	}
	return "The vendor limits our requests just now. Try again in " + after + " s."
}
