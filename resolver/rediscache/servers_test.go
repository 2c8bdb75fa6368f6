package rediscache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
)

// A name is listed with the address behind it, which is what a tenant would type.
func TestServersByName(t *testing.T) {
	t.Parallel()
	s := testenv.NewRedis(t)
	named := fmt.Sprintf("localhost:%d", s.Port)
	c := open(t, s, func(o *Options) { o.URL = secret.New("redis://" + named) })
	if got := c.Servers(); !slices.Equal(got, []string{named}) {
		t.Errorf("before the first connection: %v", got)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.Servers(); !slices.Contains(got, s.Addr) || !slices.Contains(got, named) || len(got) > 3 { // ::1 was tried at most
		t.Errorf("%v", got)
	}
}

// A fleet that moves for ever is no leak, and what is still dialled is not forgotten
// for it. A dial that fails counts: the node may come back.
func TestDialledIsBounded(t *testing.T) {
	t.Parallel()
	d := dialled{last: map[string]time.Time{}}
	away := errors.New("away")
	dial := d.wrap(func(context.Context, string, string) (net.Conn, error) { return nil, away })
	call := func(network, address string) {
		t.Helper()
		if _, err := dial(t.Context(), network, address); !errors.Is(err, away) {
			t.Error(err)
		}
	}
	call("unix", "/run/redis.sock")
	if got := d.addresses(); len(got) != 0 {
		t.Errorf("a socket is listed: %v", got)
	}
	address := func(i int) string { return fmt.Sprintf("10.0.%d.%d:6379", i/256, i%256) }
	for i := range 2 * maxDialled {
		call("tcp", address(i))
		call("tcp", "10.9.9.9:6379") // the seed, over and over
	}
	got := d.addresses()
	if len(got) != maxDialled || len(d.last) != maxDialled {
		t.Errorf("%d addresses, %d times", len(got), len(d.last))
	}
	for a, want := range map[string]bool{"10.9.9.9:6379": true, address(2*maxDialled - 1): true, address(0): false, address(maxDialled): false} {
		if slices.Contains(got, a) != want {
			t.Errorf("%s listed: %v", a, !want)
		}
	}
	if !slices.IsSorted(got) {
		t.Error("not sorted: each call would look like a new list")
	}
}
