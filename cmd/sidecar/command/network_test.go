package command

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/egress/egresstest"
	"github.com/patchbay-dev/patchbay/internal/testenv"
)

// The most open config there is does not open what the process itself uses: its
// database, Redis, Vault, its own listeners, the cluster's API, and nodes of Redis
// that turn up later.
func TestOwnServersAreNeverOpen(t *testing.T) {
	i := install(t, testenv.Postgres(t))
	cluster, node := egresstest.Plant(t), egresstest.Plant(t)
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", strconv.Itoa(int(cluster.Port)))
	cfg, _, err := config.Load(config.Options{
		Path: i.config, Mode: config.ModeServe,
		Environ: []string{"PATCHBAY_EGRESS_ALLOW=0.0.0.0/0,::/0", "PATCHBAY_EGRESS_ALLOW_LOOPBACK=true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	u, err := openUpstreams(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	open := func(address string) net.Listener {
		t.Helper()
		l, err := listener(t.Context(), address, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	portOf := func(l net.Listener) uint16 {
		t.Helper()
		a, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return a.Port()
	}
	local, admin, probes, other := open("127.0.0.1:0"), open(":0"), open("0.0.0.0:0"), open("127.0.0.1:0")
	own := u.ownServers(cfg)
	if err := u.redis.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	redis := own.found
	own.found = func() []string { // as it lists them, with one that only a cluster would name
		return append(redis(), net.JoinHostPort("127.0.0.1", strconv.Itoa(int(node.Port))))
	}
	out, err := newNetwork(cfg, log, own, local, admin, probes)
	if err != nil {
		t.Fatal(err)
	}

	portIn := func(text string) uint16 {
		t.Helper()
		v, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseUint(v.Port(), 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		return uint16(n)
	}
	client := out.runtime.Client()
	client.Timeout = time.Second // what answers nothing was reached all the same
	for name, port := range map[string]uint16{
		"Postgres":            portIn(i.pg.SuperuserURL()),
		"Redis":               uint16(i.redis.Port),
		"Vault":               portIn(i.vault.Addr),
		"the local API":       portOf(local),
		"the admin API":       portOf(admin),
		"the probes":          portOf(probes),
		"the cluster's API":   cluster.Port,
		"a node that came up": node.Port,
	} {
		hosts := []string{"127.0.0.1", "127.8.9.10", "localhost", "::1", "::ffff:127.0.0.1"}
		if name == "the admin API" || name == "the probes" { // which listen everywhere
			for _, a := range cluster.Private {
				hosts = append(hosts, a.String())
			}
		}
		for _, host := range hosts {
			address := net.JoinHostPort(host, strconv.Itoa(int(port)))
			c, err := out.runtime.DialContext(t.Context(), "tcp", address)
			if err == nil {
				_ = c.Close()
			}
			if !errors.Is(err, egress.ErrDenied) {
				t.Errorf("%s at %s: %v", name, address, err)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := client.Do(req)
			if err == nil {
				_ = answer.Body.Close()
			}
			if !errors.Is(err, egress.ErrDenied) {
				t.Errorf("%s at %s over HTTP: %v", name, address, err)
			}
		}
	}
	cluster.Check(t)
	node.Check(t)
	// Else the test would pass on a policy that is shut.
	c, err := out.runtime.DialContext(t.Context(), "tcp", other.Addr().String())
	if err != nil {
		t.Fatalf("a listener that is not ours: %v", err)
	}
	_ = c.Close()
}
