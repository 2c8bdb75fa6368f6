package tenant_test

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

func memoryIssuer(t testing.TB, s signer) tenant.Issuer {
	return tenant.Issuer{Issuer: "https://id.example.com", JWKS: jwks(t, s), Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}}
}

// TestHitAllocatesNothing: the promise of the hot path.
func TestHitAllocatesNothing(t *testing.T) {
	ec := newES256(t, "ec")
	v := newVerifier(t, memoryIssuer(t, ec))
	token := ec.sign(t, good())
	first, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		if env, err := v.Verify(ctx, token); err != nil || env != first {
			t.Fatal("not a hit")
		}
	}); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
}

// TestMemoryEndsWithTheToken: past exp the skew is given by a full check, and
// past the skew the token is refused although it was good once.
func TestMemoryEndsWithTheToken(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	var now atomic.Int64
	now.Store(time.Now().Unix())
	v, err := tenant.NewVerifier(tenant.VerifierOptions{
		Issuers: []tenant.Issuer{memoryIssuer(t, ec)}, Clock: func() time.Time { return time.Unix(now.Load(), 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	exp := now.Load() + 60
	token := ec.sign(t, good(map[string]any{"exp": exp}))
	verify := func() *tenant.Env {
		t.Helper()
		env, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
	first := verify()
	now.Store(exp - 1)
	if verify() != first {
		t.Error("the memory forgot a live token")
	}
	now.Store(exp)
	if verify() == first {
		t.Error("the memory kept a token past its exp")
	}
	now.Store(exp + 29)
	verify()
	now.Store(exp + 30)
	wantCode(t, v, token, fault.Unauthenticated)
}

// TestReusedBuffer: a caller's token may alias a request buffer.
func TestReusedBuffer(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	v := newVerifier(t, memoryIssuer(t, ec))
	for range 2 {
		a, err := v.Verify(t.Context(), ec.sign(t, good(map[string]any{"tenant_id": "acme"})))
		if err != nil || a.Tenant().String() != "acme" {
			t.Fatal(a, err)
		}
		b, err := v.Verify(t.Context(), ec.sign(t, good(map[string]any{"tenant_id": "globex"})))
		if err != nil || b.Tenant().String() != "globex" || a.Tenant().String() != "acme" {
			t.Fatal(b, err)
		}
	}
}

// TestConcurrentRotation: callers and rotations at once; a token is good
// exactly while its key is published, whatever the memory holds.
func TestConcurrentRotation(t *testing.T) {
	t.Parallel()
	stay, come := newES256(t, "stay"), newES256(t, "come")
	srv := newKeyServer(t, jwks(t, stay, come))
	v := newVerifier(t, urlIssuer(srv.URL))
	stays, comes := stay.sign(t, good()), come.sign(t, good())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := v.Verify(t.Context(), stays); err != nil {
					t.Errorf("a key that stayed: %v", err)
					return
				}
				_, _ = v.Verify(t.Context(), comes)
			}
		})
	}
	for i := range 20 {
		set, want := jwks(t, stay, come), fault.Code("")
		if i%2 == 0 {
			set, want = jwks(t, stay), fault.Unauthenticated
		}
		srv.answer(set)
		if err := v.Refresh(t.Context()); err != nil {
			t.Error(err)
			break
		}
		_, err := v.Verify(t.Context(), comes)
		if fault.CodeOf(err) != want {
			t.Errorf("round %d: %v, want %q", i, err, want)
		}
	}
	close(stop)
	wg.Wait()
}

func BenchmarkVerify(b *testing.B) {
	ec := newES256(b, "ec")
	token := ec.sign(b, good())
	for name, memory := range map[string]int{"hit": 0, "without memory": -1} {
		v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{memoryIssuer(b, ec)}, TokenMemory: memory})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := v.Verify(b.Context(), token); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	b.Run("bare SHA-256 of the token", func(b *testing.B) {
		raw := []byte(token)
		for b.Loop() {
			_ = sha256.Sum256(raw)
		}
	})
}
