package obs

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestLoggerLevels(t *testing.T) {
	t.Parallel()
	for level, want := range map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1, "loud": 3} {
		var b bytes.Buffer
		l := NewLogger(&b, level)
		l.Debug("a")
		l.Info("b")
		l.Warn("c")
		l.Error("d", FieldTenant, "acme")
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != want {
			t.Errorf("%s: %d lines, want %d", level, len(lines), want)
		}
		var last map[string]any
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last["tenant"] != "acme" {
			t.Errorf("%s: %v %v", level, err, last)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	a, b := NewRequestID(), NewRequestID()
	if a == b || !regexp.MustCompile(`^[0-9a-z]{16}$`).MatchString(a) {
		t.Errorf("%q, %q", a, b)
	}
}

func scrape(r *Registry) string {
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := NewRegistry()
	local, admin := r.NewRequests("local"), r.NewRequests("admin")
	route := local.Route("/v1/env")
	route.Done(200, time.Millisecond)
	route.Done(200, time.Millisecond)
	route.Done(404, time.Millisecond)
	route.Done(-1, 0)
	route.Done(1000, 0)
	admin.Route("other").Done(404, 0)
	sources := r.Counters("resolves_total", "Answers by source.", "source", "memory", "redis")
	sources["memory"].Inc()
	sources["unknown"].Inc() // a nil Counter
	r.Counter("floor_resets_total", "x").Inc()
	r.CounterFunc("vault_reads_total", "x", func() int64 { return 7 })
	r.GaugeFunc("clock_skew_seconds", "x", func() float64 { return 1.5 })
	text := scrape(r)
	for _, want := range []string{
		`patchbay_http_requests_total{listener="local",route="/v1/env",status="200"} 2`,
		`patchbay_http_requests_total{listener="local",route="/v1/env",status="404"} 1`,
		`patchbay_http_requests_total{listener="admin",route="other",status="404"} 1`,
		`patchbay_http_request_seconds_count{listener="local",route="/v1/env"} 3`,
		`patchbay_resolves_total{source="memory"} 1`,
		`patchbay_resolves_total{source="redis"} 0`,
		"patchbay_floor_resets_total 1", "patchbay_vault_reads_total 7", "patchbay_clock_skew_seconds 1.5", "go_goroutines ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %s", want)
		}
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	r := NewRegistry()
	route := r.NewRequests("local").Route("x")
	c := r.Counter("c_total", "x")
	route.Done(200, 0)
	if n := testing.AllocsPerRun(1000, func() { route.Done(200, time.Millisecond); c.Inc() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var none *Requests
	none.Route("x").Done(200, 0)
}
