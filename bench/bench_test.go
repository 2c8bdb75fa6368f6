package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The taps pass everything on and count what a client waits for.
func TestTapsCountAndPassOn(t *testing.T) {
	t.Parallel()
	pgMessage := func(kind byte, body string) string {
		return string([]byte{kind, 0, 0, 0, byte(4 + len(body))}) + body
	}
	for name, row := range map[string]struct {
		tap  func(w *wire) func(io.Reader, io.Writer)
		said string
		want []exchange
	}{
		"one pipelined batch is one wait": {
			func(w *wire) func(io.Reader, io.Writer) { return w.postgres },
			"\x00\x00\x00\x08\x00\x03\x00\x00" + pgMessage('P', "\x00SELECT a\x00\x00\x00") + pgMessage('P', "\x00SELECT b\x00\x00\x00") + pgMessage('S', ""),
			[]exchange{{"postgres", "SELECT a; SELECT b"}},
		},
		"a Flush and a simple query are waits of their own": {
			func(w *wire) func(io.Reader, io.Writer) { return w.postgres },
			"\x00\x00\x00\x08\x00\x03\x00\x00" + pgMessage('P', "\x00SELECT a\x00\x00\x00") + pgMessage('H', "") + pgMessage('S', "") + pgMessage('Q', "BEGIN\x00"),
			[]exchange{{"postgres", "SELECT a"}, {"postgres", ""}, {"postgres", "BEGIN"}},
		},
		"each Redis command": {
			func(w *wire) func(io.Reader, io.Writer) { return w.redis },
			"*1\r\n$4\r\nping\r\n*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$3\r\n\r\nb\r\n",
			[]exchange{{"redis", "PING"}, {"redis", "MGET"}},
		},
		"each HTTP request, with its body": {
			func(w *wire) func(io.Reader, io.Writer) { return w.http },
			"GET /v1/kv/data/x HTTP/1.1\r\nHost: a\r\n\r\nPOST /v1/auth HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
			[]exchange{{"vault", "GET /v1/kv/data/x"}, {"vault", "POST /v1/auth"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, passed := &wire{}, &bytes.Buffer{}
			row.tap(w)(strings.NewReader(row.said), passed)
			if got := w.take(); !reflect.DeepEqual(got, row.want) {
				t.Errorf("counted %q, want %q", got, row.want)
			}
			if passed.String() != row.said {
				t.Errorf("passed on %q, want %q", passed, row.said)
			}
		})
	}
}

// What the process does by itself is not the request's.
func TestTripsOfARequest(t *testing.T) {
	t.Parallel()
	got := tripsOf([]exchange{
		{"redis", "PING"}, {"redis", "MGET"}, {"postgres", "SELECT clock_timestamp(); SELECT"},
		{"postgres", "SELECT clock_timestamp(); SELECT t.revision FROM tenants t"}, {"vault", "PUT /v1/auth/token/renew-self"},
		{"vault", "GET /v1/kv/data/patchbay/x"}, {"redis", "EVALSHA"},
		{"postgres", "SELECT clock_timestamp(); SELECT t.id FROM tenants t WHERE t.id = ANY ($1)"},
	})
	if want := (trips{redis: 2, postgres: 1, vault: 1, beforeVault: 2, all: 4}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A generator that took any answer would flatter whoever fails fast.
func TestGeneratorRefusesWrongAnswers(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		status int
		body   string
		ok     bool
	}{
		"the expected bytes":     {200, "expected", true},
		"another body":           {200, "Expected", false},
		"another length":         {200, "expected and more", false},
		"a body that ends alike": {200, "not expected", false},
		"another status":         {201, "expected", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(row.status)
				_, _ = io.WriteString(w, row.body) // a lost client shows below
			}))
			defer s.Close()
			addr := s.Listener.Addr().(*net.TCPAddr).String()
			in, err := json.Marshal(order{Addr: addr, Path: "/", Tokens: []string{"t", "u"}, Connections: 2, Length: time.Nanosecond, Want: []byte("expected")})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := generate(bytes.NewReader(in), &out); (err == nil) != row.ok {
				t.Fatalf("%v", err)
			}
			if !row.ok {
				return
			}
			var f figures
			if err := json.Unmarshal(out.Bytes(), &f); err != nil || f.Requests == 0 || f.P99 < f.P50 || f.P50 <= 0 {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
}

func TestPlansThatGrow(t *testing.T) {
	t.Parallel()
	p := plans{kinds: map[string]bool{"Index Scan a": true, "Seq Scan b": true, "Incremental Sort": true, "Nested Loop": true}}
	if got := p.unwanted(); !reflect.DeepEqual(got, []string{"Incremental Sort", "Seq Scan b"}) {
		t.Errorf("%q", got)
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		in   []float64
		want spread
	}{{[]float64{3, 1, 2}, spread{1, 2, 3}}, {[]float64{4, 1, 2, 3}, spread{1, 2.5, 4}}, {nil, spread{}}} {
		if got := spreadOf(row.in); got != row.want {
			t.Errorf("%v: %v, want %v", row.in, got, row.want)
		}
	}
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	if percentile(hundred, 99) != 99 || percentile(hundred, 100) != 100 || percentile([]float64{7}, 50) != 7 {
		t.Error("percentiles are not the nearest ranks")
	}
}
