package rediscache

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	s := testenv.NewRedis(t)
	c := open(t, s, nil)
	ctx := t.Context()
	if v, err := c.GetToken(ctx, acme, "a"); v != nil || err != nil {
		t.Fatalf("nothing is %q, %v", v, err)
	}
	value := "\x00\xff\r\nsealed"
	if err := c.PutToken(ctx, acme, "a", []byte(value), time.Minute); err != nil {
		t.Fatal(err)
	}
	if v, err := c.GetToken(ctx, acme, "a"); string(v) != value || err != nil {
		t.Fatalf("%q, %v", v, err)
	}
	if v, err := c.GetToken(ctx, globex, "a"); v != nil || err != nil {
		t.Fatalf("another tenant reads %q, %v", v, err)
	}
	for i, want := range []bool{true, false} {
		if mine, err := c.ClaimToken(ctx, acme, "c", time.Minute); mine != want || err != nil {
			t.Fatalf("claim %d: %v, %v", i, mine, err)
		}
	}
	if mine, err := c.ClaimToken(ctx, globex, "c", time.Minute); !mine || err != nil {
		t.Fatalf("another tenant's claim: %v, %v", mine, err)
	}
	for _, k := range allKeys(t, s) {
		if ms, _ := command(t, s, "PTTL", k).(int64); !strings.Contains(k, "}:t:") || ms <= 0 || ms > 60_000 {
			t.Errorf("%s lives for %d ms", k, ms)
		}
	}
	if err := c.PutToken(ctx, acme, "short", []byte("x"), -time.Second); err != nil {
		t.Fatal(err)
	}
	if mine, err := c.ClaimToken(ctx, acme, "soon", 30*time.Millisecond); !mine || err != nil {
		t.Fatal(mine, err)
	}
	wait(t, "what has ended is gone", patience, func() bool {
		return !slices.ContainsFunc(allKeys(t, s), func(k string) bool { return strings.HasSuffix(k, ":short") || strings.HasSuffix(k, ":soon") })
	})
	s.Stop()
	_, err := c.GetToken(ctx, acme, "a")
	_, claim := c.ClaimToken(ctx, acme, "c", time.Minute)
	for what, err := range map[string]error{"get": err, "put": c.PutToken(ctx, acme, "a", nil, time.Minute), "claim": claim} {
		if fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("%s without Redis: %v", what, err)
		}
	}
}
