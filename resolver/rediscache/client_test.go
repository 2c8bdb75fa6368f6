package rediscache

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
)

// The revision key's name is how one key invalidates a tenant, for every version
// of every sidecar of a fleet: it may not change.
func TestKeysAreSpelledOut(t *testing.T) {
	s := testenv.NewRedis(t)
	c := open(t, s, func(o *Options) { o.Prefix = "" })
	if err := c.Fill(t.Context(), name, 10, []byte("entry"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := c.NewPublisher().Publish(t.Context(), []connector.Message{{ID: 3, Tenant: globex, Revision: 4}}); err != nil {
		t.Fatal(err)
	}
	want := []string{"pb:relay:sent", "pb:{acme}:e:s:hq:storage", "pb:{acme}:rev", "pb:{globex}:rev"}
	if got := allKeys(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("keys %q, want %q", got, want)
	}
}

// A reader that read before a change and fills after it must not bring the old
// answer back.
func TestFill(t *testing.T) {
	s := testenv.Redis(t)
	cases := []struct {
		name     string
		key      string // the revision key before, "" when there is none
		snapshot int64
		stored   bool
		after    int64
	}{
		{"no key yet", "", 10, true, 10},
		{"the same revision", "10", 10, true, 10},
		{"a reader ahead of the relay", "9", 10, true, 10},
		{"a slow reader", "11", 10, false, 11},
		{"numbers, not strings", "9", 10, true, 10},
		{"beyond 32 bits", "1766000000000", 1766000000001, true, 1766000000001},
		{"a spoiled key", "spoiled", 10, true, 10},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := open(t, s, nil)
			if tc.key != "" {
				command(t, s, "SET", c.revisionKey(acme), tc.key)
			}
			if err := c.Fill(t.Context(), name, tc.snapshot, []byte("entry"), time.Minute); err != nil {
				t.Fatal(err)
			}
			got, err := c.Get(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if (got.Entry != nil) != tc.stored || !got.HasRevision || got.Revision != tc.after {
				t.Errorf("entry stored: %v, revision %d (%v)", got.Entry != nil, got.Revision, got.HasRevision)
			}
		})
	}
}

func TestMissingRevisionKeyShows(t *testing.T) {
	s := testenv.Redis(t)
	c := open(t, s, nil)
	if err := c.Fill(t.Context(), name, 10, []byte("entry"), time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range [][]string{{"DEL", c.revisionKey(acme)}, {"SET", c.revisionKey(acme), "spoiled"}} {
		command(t, s, spoil...)
		if got, err := c.Get(t.Context(), name); err != nil || got.HasRevision {
			t.Errorf("%s: revision %d, present %v, %v", spoil[0], got.Revision, got.HasRevision, err)
		}
	}
}

func TestFillExpires(t *testing.T) {
	s := testenv.Redis(t)
	c := open(t, s, nil)
	if err := c.Fill(t.Context(), name, 10, []byte("entry"), 40*time.Second); err != nil {
		t.Fatal(err)
	}
	if ms := command(t, s, "PTTL", c.entryKey(name)).(int64); ms <= 0 || ms > 40_000 {
		t.Errorf("the entry lives %d ms", ms)
	}
	if err := c.Fill(t.Context(), name, 10, []byte("entry"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Fill(t.Context(), name, 10, []byte("soon gone"), 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	wait(t, "the entry expires", patience, func() bool {
		got, err := c.Get(t.Context(), name)
		return err == nil && got.Entry == nil && got.HasRevision
	})
}

func TestLowerComparesAndSets(t *testing.T) {
	s := testenv.Redis(t)
	cases := []struct{ name, before, after string }{
		{"it holds the disproved revision", "20", "15"},
		{"it moved on", "21", "21"},
		{"it is lower already", "15", "15"},
		{"it is gone", "", ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := open(t, s, nil)
			if tc.before != "" {
				command(t, s, "SET", c.revisionKey(acme), tc.before)
			}
			if err := c.Lower(t.Context(), acme, 20, 15); err != nil {
				t.Fatal(err)
			}
			got, _ := command(t, s, "GET", c.revisionKey(acme)).(string)
			if got != tc.after {
				t.Errorf("the key holds %q, want %q", got, tc.after)
			}
		})
	}
}

func TestRevisions(t *testing.T) {
	s := testenv.Redis(t)
	c := open(t, s, nil)
	var ids []tenant.ID
	want := map[tenant.ID]int64{}
	for i := range 1000 {
		id := tenant.MustID(fmt.Sprint("t", i))
		ids = append(ids, id)
		if i%3 == 0 {
			continue
		}
		want[id] = int64(i)
		if err := c.Fill(t.Context(), resolver.SharedKey{Tenant: id, Name: "x"}, int64(i), []byte("e"), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Revisions(t.Context(), ids)
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%d revisions, want %d; %v", len(got), len(want), err)
	}
	if got, err := c.Revisions(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("of nobody: %v, %v", got, err)
	}
}

// A hit is one command on an open connection, whatever else a client library
// likes to say.
func TestGetIsOneRoundTrip(t *testing.T) {
	s := testenv.NewRedis(t)
	c := open(t, s, nil)
	if err := c.Fill(t.Context(), name, 10, []byte("entry"), time.Minute); err != nil {
		t.Fatal(err)
	}
	command(t, s, "CONFIG", "RESETSTAT")
	for range 10 {
		if got, err := c.Get(t.Context(), name); err != nil || string(got.Entry) != "entry" {
			t.Fatal(got, err)
		}
	}
	stats := command(t, s, "INFO", "commandstats").(string)
	for line := range strings.Lines(stats) {
		if strings.HasPrefix(line, "cmdstat_") && !strings.HasPrefix(line, "cmdstat_mget:calls=10,") &&
			!strings.HasPrefix(line, "cmdstat_config") && !strings.HasPrefix(line, "cmdstat_info") {
			t.Errorf("an extra command: %s", line)
		}
	}
	if !strings.Contains(stats, "cmdstat_mget:calls=10,") {
		t.Errorf("not ten MGETs:\n%s", stats)
	}
}

// A Redis that is frozen, gone or behind a network that drops packets costs
// every caller a bounded time, and most of them none.
func TestFaultsAreBounded(t *testing.T) {
	cases := []struct {
		name        string
		break_, end func(s *testenv.RedisServer, t *testing.T)
	}{
		{"frozen", func(s *testenv.RedisServer, _ *testing.T) { s.Pause() }, func(s *testenv.RedisServer, _ *testing.T) { s.Resume() }},
		{"gone", func(s *testenv.RedisServer, _ *testing.T) { s.Kill() }, func(s *testenv.RedisServer, t *testing.T) { s.Start(t) }},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := testenv.NewRedis(t)
			warm, cold := open(t, s, nil), open(t, s, nil)
			if err := warm.Fill(t.Context(), name, 10, []byte("entry"), time.Minute); err != nil {
				t.Fatal(err)
			}
			tc.break_(s, t)
			t.Cleanup(s.Resume)
			watch := testenv.StartStopwatch(t)
			for what, c := range map[string]*Client{"warm": warm, "cold": cold} {
				fast := 0
				for range 5 {
					for call, f := range map[string]func() error{
						"get":   func() error { _, err := c.Get(t.Context(), name); return err },
						"fill":  func() error { return c.Fill(t.Context(), name, 10, []byte("e"), time.Minute) },
						"lower": func() error { return c.Lower(t.Context(), acme, 2, 1) },
					} {
						began := time.Now()
						err := f()
						took := watch.Since(began)
						// The bound is 100 ms; the rest is a busy machine.
						if fault.CodeOf(err) != fault.Unavailable || took > 700*time.Millisecond {
							t.Errorf("%s %s: %v after %v", what, call, err, took)
						}
						if took < 10*time.Millisecond {
							fast++
						}
					}
				}
				if fast < 10 {
					t.Errorf("%s: only %d of 15 calls were spared the wait", what, fast)
				}
				began := time.Now()
				_, err := c.Revisions(t.Context(), []tenant.ID{acme})
				if took := watch.Since(began); err == nil || took > 3*time.Second {
					t.Errorf("%s revisions: %v after %v", what, err, took)
				}
				began = time.Now()
				_, err = c.Subscribe(t.Context())
				if took := watch.Since(began); err == nil || took > 5*time.Second {
					t.Errorf("%s subscribe: %v after %v", what, err, took)
				}
			}
			tc.end(s, t)
			for _, c := range []*Client{warm, cold} {
				wait(t, "Redis is used again", patience, func() bool {
					_, err := c.Get(t.Context(), name)
					return err == nil
				})
			}
		})
	}
}

// A refusal of one command says nothing of the others: a key that somebody
// spoiled must not switch Redis off for all tenants.
func TestOneSpoiledKeyIsNotAnOutage(t *testing.T) {
	s := testenv.Redis(t)
	c := open(t, s, nil)
	command(t, s, "LPUSH", c.revisionKey(acme), "a list")
	if err := c.Fill(t.Context(), name, 10, []byte("entry"), time.Minute); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	if err := c.Fill(t.Context(), resolver.SharedKey{Tenant: globex, Name: "x"}, 10, []byte("entry"), time.Minute); err != nil {
		t.Errorf("another tenant's fill: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	const password = "canary-password"
	cases := []struct {
		name string
		o    Options
	}{
		{"no URL", Options{URL: secret.New("")}},
		{"not a URL", Options{URL: secret.New("redis://u:" + password + "@host:notaport/0")}},
		{"unknown scheme", Options{URL: secret.New("http://u:" + password + "@host/0")}},
		{"unknown mode", Options{URL: secret.New("redis://u:" + password + "@host/0"), Mode: "mirror"}},
		{"sentinel without a master", Options{URL: secret.New("redis://u:" + password + "@host/0"), Mode: "sentinel"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Open(tc.o)
			if fault.CodeOf(err) != fault.InvalidArgument || strings.Contains(fmt.Sprintf("%+v", err), password) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestUserAndPassword(t *testing.T) {
	s := testenv.NewRedis(t)
	// The rights that it takes, and no more; a cluster adds "cluster".
	command(t, s, "ACL", "SETUSER", "patchbay", "on", ">right", "~pb:*", "&pb:*",
		"+get", "+set", "+mget", "+eval", "+evalsha", "+publish", "+subscribe", "+unsubscribe", "+info", "+time", "+ping", "+hello", "+client")
	command(t, s, "ACL", "SETUSER", "default", "off")
	url := func(password string) secret.Value {
		return secret.New("redis://patchbay:" + password + "@" + s.Addr + "/0")
	}
	c := open(t, s, func(o *Options) { o.URL, o.Prefix = url("right"), "" })
	if err := c.Fill(t.Context(), name, 10, []byte("entry"), time.Minute); err != nil {
		t.Fatal(err)
	}
	p := c.NewPublisher()
	if err := p.Publish(t.Context(), []connector.Message{{ID: 1, Tenant: acme, Revision: 11}}); err != nil {
		t.Error(err)
	}
	standing, err := p.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := p.Heartbeat(t.Context(), standing, time.Minute); err != nil || !ok {
		t.Errorf("heartbeat %v, %v", ok, err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if sub, err := c.Subscribe(t.Context()); err != nil {
		t.Error(err)
	} else {
		_ = sub.Close()
	}
	if err := c.PutToken(t.Context(), acme, "a", []byte("sealed"), time.Minute); err != nil {
		t.Error(err)
	}
	if v, err := c.GetToken(t.Context(), acme, "a"); err != nil || string(v) != "sealed" {
		t.Errorf("token %q, %v", v, err)
	}
	if mine, err := c.ClaimToken(t.Context(), acme, "c", time.Minute); err != nil || !mine {
		t.Errorf("claim %v, %v", mine, err)
	}
	wrong := open(t, s, func(o *Options) { o.URL = url("wrong-canary") })
	if err := wrong.Ping(t.Context()); fault.CodeOf(err) != fault.Unavailable || strings.Contains(fmt.Sprintf("%+v", err), "wrong-canary") {
		t.Errorf("got %v", err)
	}
}
