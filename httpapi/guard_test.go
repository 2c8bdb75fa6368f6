package httpapi

import "testing"

// TestSecondHostAmongTrailers: the trailers of a chunked body count as headers,
// and made up for the line of the Host that the server had dropped.
func TestSecondHostAmongTrailers(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	hosts := "GET /v1/env HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\nAuthorization: " + w.token() + "\r\n"
	for _, rest := range []string{
		"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n0\r\nX-A: b\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: b\r\nX-B: b\r\n\r\n",
	} {
		res, body := w.raw(hosts + rest)
		w.problem(res, body, 400, "invalid_argument")
	}
}
