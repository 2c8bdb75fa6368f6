package oauth

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// A token at hand says nothing about a client secret that was changed since: a wrong
// one is found out, and a right one is refreshed with once, whoever asks.
func TestProveTheClientSecret(t *testing.T) {
	t.Parallel()
	for _, rotates := range []bool{true, false} {
		w, i, m := connected(t, time.Hour, rotates)
		w.ask(m)
		ref := w.ref
		ref.GrantVersion = w.row().Version
		before := w.stored().Version
		// A grant of before knows no secret yet: it is used with this one, once.
		for range 2 {
			if err := m.Prove(within(t, 20*time.Second), ref, w.app); err != nil {
				t.Fatal(err)
			}
		}
		proven := w.stored()
		if proven.Version != before+1 {
			t.Fatalf("rotates %v: version %d after %d: it was not refreshed once", rotates, proven.Version, before)
		}
		if token := w.ask(m); !i.good(token.Access.Reveal()) {
			t.Error("the token of the refresh is none")
		}
		wrong := w.app
		wrong.ClientSecret = secret.New(canary)
		err := m.Prove(within(t, 20*time.Second), ref, wrong)
		var said *providers.TokenError
		if !errors.As(err, &said) || said.Code != providers.CodeOAuthClientInvalid {
			t.Fatalf("a wrong secret: %v", err)
		}
		if w.stored().Version != proven.Version || w.row().Status != connector.GrantActive {
			t.Errorf("a wrong secret changed the grant: %+v", w.row())
		}
		// The right one is as good as before, and many at once prove it at no cost.
		ref.GrantVersion = w.row().Version
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := m.Prove(within(t, 20*time.Second), ref, w.app); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if w.stored().Version != proven.Version {
			t.Error("what is proven was refreshed again")
		}
	}
}

// Where nothing can be proven, nothing is refused.
func TestProveNothing(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.ask(m)
	none := w.ref
	none.GrantVersion = 0
	if err := m.Prove(within(t, 20*time.Second), none, w.app); err != nil {
		t.Error(err)
	}
	if err := m.Prove(within(t, 20*time.Second), w.ref, machine(i)); err != nil {
		t.Error(err)
	}
	other := w.app
	other.ClientID = "another"
	if err := m.Prove(within(t, 20*time.Second), w.ref, other); err != nil {
		t.Error(err)
	}
	if err := m.Close(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	ref := w.ref
	ref.GrantVersion = w.row().Version
	changed := w.app
	changed.ClientSecret = secret.New(canary)
	if err := m.Prove(within(t, 20*time.Second), ref, changed); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("after its end: %v", err)
	}
}
