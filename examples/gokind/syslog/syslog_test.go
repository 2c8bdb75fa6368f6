package syslog

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

func TestActivateRefusesATokenInClear(t *testing.T) {
	t.Parallel()
	for tls, want := range map[bool]error{true: nil, false: providers.InvalidArgument} {
		c, err := New().Schema().Decode(input(map[string]any{"tls": tls}), providers.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := New().Activate(t.Context(), c); !errors.Is(err, want) || err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("tls %t: %v", tls, err)
		}
	}
}

// A collector reads what level 3 sends.
func TestAMessageArrives(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	got := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		count, _ := r.ReadString(' ')
		n, _ := strconv.Atoi(strings.TrimSpace(count))
		text := make([]byte, n)
		_, _ = io.ReadFull(r, text)
		got <- string(text)
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.ParseInt(port, 10, 64)

	var d net.Dialer
	p := New().Bind(providers.Runtime{DialContext: d.DialContext})
	c, err := p.Schema().Decode(input(map[string]any{"host": "127.0.0.1", "port": n, "tls": false}), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: providers.LevelWrite})
	if err != nil || !r.OK {
		t.Fatalf("%v %s", err, providertest.Render(r))
	}
	providertest.CheckReport(t, c, r)
	if m := <-got; !strings.HasPrefix(m, "<14>1 ") || !strings.HasSuffix(m, ` - patchbay - - [token@32473 value="canary-\"\]\\token"] Connection test`) {
		t.Errorf("got %q", m)
	}
}
