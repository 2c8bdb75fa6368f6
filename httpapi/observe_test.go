package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/obs"
)

// routes are all values that the label and the field may have.
var routes = []string{"/v1/resolve", "/v1/resolve/:category", "/v1/connectors/:id", "/v1/env", "other"}

// observed is what a test sends: text that appears nowhere but in the request.
var observed = []struct {
	name, route string
	text        func(token string) string
}{
	{"a hit", "/v1/resolve/:category", wellFormed("GET", "/v1/resolve/storage")},
	{"all", "/v1/resolve", wellFormed("GET", "/v1/resolve?organization=lab")},
	{"env", "/v1/env", wellFormed("GET", "/v1/env")},
	{"an id", "/v1/connectors/:id", wellFormed("GET", "/v1/connectors/"+connectorID.String())},
	{"an unknown id", "/v1/connectors/:id", wellFormed("GET", "/v1/connectors/01980000-0000-7000-8000-00000marker1")},
	{"an unknown category", "/v1/resolve/:category", wellFormed("GET", "/v1/resolve/marker2")},
	{"an unknown route", "other", wellFormed("GET", "/v2/marker3/marker4?marker5=marker6")},
	{"an encoded path", "other", wellFormed("GET", "/v1%2fmarker7")},
	{"a wrong method", "/v1/env", wellFormed("POST", "/v1/env")},
	{"an unknown method", "other", wellFormed("MARKER8", "/v1/env")},
	{"a foreign host", "/v1/env", func(string) string { return "GET /v1/env HTTP/1.1\r\nHost: marker9.example\r\n\r\n" }},
	{"no token", "/v1/env", func(string) string { return "GET /v1/env HTTP/1.1\r\nHost: localhost\r\n\r\n" }},
	{"a bad organization", "/v1/resolve/:category", wellFormed("GET", "/v1/resolve/storage?organization=../marker10")},
	{"an oversized header", "other", func(token string) string {
		return "GET /v1/env HTTP/1.1\r\nHost: localhost\r\nX-Marker: " + strings.Repeat("marker11", 4<<10) + "\r\n\r\n"
	}},
	{"no HTTP", "other", func(string) string { return "marker12\r\n\r\n" }},
}

func wellFormed(method, path string) func(string) string {
	return func(token string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\nContent-Length: 0\r\n\r\n"
	}
}

// TestOneEventPerRequest: also for those that never reached a route, with the id
// that the caller was told, and with nothing that the caller wrote.
func TestOneEventPerRequest(t *testing.T) {
	t.Parallel()
	for _, o := range observed {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			res, body := w.raw(o.text(w.token()))
			logged := w.log.String()
			var events []map[string]any
			for line := range strings.Lines(logged) {
				var event map[string]any
				if err := json.Unmarshal([]byte(line), &event); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
				if event["msg"] == "request" {
					events = append(events, event)
				}
			}
			if len(events) != 1 {
				t.Fatalf("%d events: %s", len(events), logged)
			}
			e := events[0]
			if e[obs.FieldRoute] != o.route || e[obs.FieldStatus] != float64(res.StatusCode) {
				t.Errorf("route %v, status %v; answered %d", e[obs.FieldRoute], e[obs.FieldStatus], res.StatusCode)
			}
			if id, _ := e[obs.FieldRequestID].(string); id == "" || res.StatusCode >= 400 && !strings.Contains(body, id) {
				t.Errorf("request id %q is not in %s", id, body)
			}
			if failed := res.StatusCode >= 400; failed != (e[obs.FieldCode] != nil) {
				t.Errorf("code %v for status %d", e[obs.FieldCode], res.StatusCode)
			}
			if m := regexp.MustCompile(`(?i)marker\d+`).FindString(logged); m != "" || strings.Contains(logged, canary) {
				t.Errorf("%q is logged: %s", m, logged)
			}
		})
	}
}

// TestIDsNeverBecomeLabels: a label per id, or per path that somebody makes up,
// is a memory leak that anybody can cause, and a list of our customers.
func TestIDsNeverBecomeLabels(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	total := 0
	for range 3 {
		for _, o := range observed {
			w.raw(o.text(w.token()))
			total++
		}
	}
	page := httptest.NewRecorder()
	w.reg.Handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	text := page.Body.String()
	counted := 0
	for _, m := range regexp.MustCompile(`patchbay_http_requests_total\{(.*)\} (\d+)`).FindAllStringSubmatch(text, -1) {
		var n int
		if _, err := fmt.Sscan(m[2], &n); err != nil {
			t.Fatal(err)
		}
		counted += n
	}
	if counted != total {
		t.Errorf("%d requests are counted, %d were sent", counted, total)
	}
	for _, m := range regexp.MustCompile(`route="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(routes, m[1]) {
			t.Errorf("route %q is a label", m[1])
		}
	}
	for _, id := range []string{"acme", "hq", "lab", connectorID.String(), canary} {
		if regexp.MustCompile(`[{,]\w+="[^"]*\b` + id + `\b`).MatchString(text) {
			t.Errorf("%q is in a label", id)
		}
	}
	if m := regexp.MustCompile(`(?i)marker\d+`).FindString(text); m != "" {
		t.Errorf("%q is on the metrics page", m)
	}
}
