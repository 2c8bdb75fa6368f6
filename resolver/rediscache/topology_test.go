package rediscache

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
)

// startCluster joins three masters.
func startCluster(t *testing.T) []*testenv.RedisServer {
	t.Helper()
	nodes := make([]*testenv.RedisServer, 3)
	for i := range nodes {
		nodes[i] = testenv.NewRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		args := []string{"CLUSTER", "ADDSLOTS"}
		for slot := i * 16384 / 3; slot < (i+1)*16384/3; slot++ {
			args = append(args, fmt.Sprint(slot))
		}
		command(t, nodes[i], args...)
		command(t, nodes[i], "CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i+1))
		if i > 0 {
			command(t, nodes[0], "CLUSTER", "MEET", "127.0.0.1", fmt.Sprint(nodes[i].Port))
		}
	}
	wait(t, "the cluster is whole", 20*time.Second, func() bool {
		for _, n := range nodes {
			info, _ := command(t, n, "CLUSTER", "INFO").(string)
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	return nodes
}

func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	addrs := []string{nodes[0].Addr, nodes[1].Addr, nodes[2].Addr}
	c := open(t, nodes[0], func(o *Options) { o.Mode, o.Addrs = "cluster", addrs })

	// Tenants of every node: scripts over a tenant's keys, reads of many tenants.
	var ids []tenant.ID
	var ms []connector.Message
	for i := range int64(60) {
		id := tenant.MustID(fmt.Sprint("t", i))
		ids = append(ids, id)
		ms = append(ms, connector.Message{ID: i + 1, Tenant: id, Revision: 100 + i})
		if err := c.Fill(t.Context(), resolver.SharedKey{Tenant: id, Name: "x"}, 100+i, []byte("entry"), time.Minute); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Get(t.Context(), resolver.SharedKey{Tenant: id, Name: "x"}); err != nil || string(got.Entry) != "entry" || got.Revision != 100+i {
			t.Fatal(got, err)
		}
	}
	got, err := c.Revisions(t.Context(), append(ids, acme))
	if err != nil || len(got) != 60 || got[ids[59]] != 159 {
		t.Errorf("%d revisions, %v", len(got), err)
	}
	for _, n := range nodes {
		if len(allKeys(t, n)) == 0 {
			t.Error("a node holds nothing: the test shows little")
		}
	}

	// One seed leads to all nodes: a tenant may name none of them.
	one := open(t, nodes[0], func(o *Options) { o.Mode, o.Addrs = "cluster", addrs[1:2] })
	if got := one.Servers(); !slices.Equal(got, addrs[1:2]) {
		t.Errorf("before the first connection: %v", got)
	}
	if _, err := one.Revisions(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	if got, want := one.Servers(), slices.Sorted(slices.Values(addrs)); !slices.Equal(got, want) {
		t.Errorf("the servers are %v, want %v", got, want)
	}

	// Messages keep their order whichever node holds their tenant, else numbers
	// would gap.
	sub := subscribe(t, c)
	p := c.NewPublisher()
	for range 5 {
		if err := p.Publish(t.Context(), ms); err != nil {
			t.Fatal(err)
		}
	}
	st, err := p.State(t.Context())
	if err != nil || st.Sentinel != 60 || strings.Count(st.Identity, "/") != 4 {
		t.Fatal(st, err)
	}
	if ok, err := p.Heartbeat(t.Context(), st, time.Minute); err != nil || !ok {
		t.Fatal(ok, err)
	}
	for i := range int64(301) {
		ev, err := next(t, sub)
		if err != nil || ev.Number != i+1 || (ev.Kind == resolver.EventHeartbeat) != (i == 300) {
			t.Fatalf("event %d: %+v, %v", i, ev, err)
		}
	}

	// A master that restarts takes the tenants' keys with it, whether or not the
	// sentinel was among them.
	for i, n := range nodes {
		st, err := p.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.Kill()
		n.Start(t)
		wait(t, "the node is back", 20*time.Second, func() bool { _, err := p.State(t.Context()); return err == nil })
		if ok, err := p.Heartbeat(t.Context(), st, time.Minute); ok || err != nil {
			t.Errorf("node %d restarted: heartbeat %v, %v", i, ok, err)
		}
	}
}

// startSentinel runs a sentinel of master under the name "main".
func startSentinel(t *testing.T, master *testenv.RedisServer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close() // for the sentinel
	dir := t.TempDir()
	file := filepath.Join(dir, "sentinel.conf")
	conf := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor main 127.0.0.1 %d 1\n"+
		"sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n", port, dir, master.Port)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, file, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master := testenv.NewRedis(t)
	replica := testenv.NewRedis(t, "--replicaof", fmt.Sprintf("127.0.0.1 %d", master.Port), "--repl-diskless-sync-delay", "0")
	sentinel := startSentinel(t, master)
	wait(t, "the replica follows", 20*time.Second, func() bool {
		info, _ := command(t, replica, "INFO", "replication").(string)
		return strings.Contains(info, "master_link_status:up")
	})
	watcher := &testenv.RedisServer{Addr: sentinel}
	wait(t, "the sentinel knows the replica", 20*time.Second, func() bool {
		got, err := watcher.Command("SENTINEL", "REPLICAS", "main")
		list, _ := got.([]any)
		return err == nil && len(list) == 1
	})
	c := open(t, master, func(o *Options) { o.Mode, o.Addrs, o.Master = "sentinel", []string{sentinel}, "main" })
	if err := c.Fill(t.Context(), name, 10, []byte("entry"), time.Minute); err != nil {
		t.Fatal(err)
	}
	listed := func(what string, want ...string) {
		t.Helper()
		got := c.Servers()
		for _, a := range want {
			if !slices.Contains(got, a) {
				t.Errorf("%s: the servers are %v, without %s", what, got, a)
			}
		}
	}
	listed("the sentinel names the master", sentinel, master.Addr)
	p := c.NewPublisher()
	before, err := p.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, c)
	master.Kill()
	if ev, err := next(t, sub); err == nil {
		t.Errorf("the subscription to a dead master received %+v", ev)
	}
	wait(t, "the replica is master and used", 30*time.Second, func() bool {
		return c.Fill(t.Context(), name, 11, []byte("entry"), time.Minute) == nil
	})
	listed("after the failover", sentinel, master.Addr, replica.Addr)
	var after resolver.Standing
	wait(t, "the publisher has found it", patience, func() bool { after, err = p.State(t.Context()); return err == nil })
	if after.Identity == before.Identity {
		t.Error("a failover left the identity as it was")
	}
	if ok, err := p.Heartbeat(t.Context(), before, time.Minute); ok || err != nil {
		t.Errorf("heartbeat %v, %v", ok, err)
	}
}

// certificate makes a self-signed one for 127.0.0.1.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8), pool
}

func TestTLS(t *testing.T) {
	cert, key, pool := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close() // for Redis
	s := testenv.NewRedis(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	url := secret.New(fmt.Sprintf("rediss://127.0.0.1:%d/0", port))
	c := open(t, s, func(o *Options) { o.URL, o.RootCAs = url, pool })
	if err := c.Fill(t.Context(), name, 10, []byte("entry"), time.Minute); err != nil {
		t.Fatal(err)
	}
	subscribe(t, c)
	// A certificate that nobody vouches for is no Redis.
	stranger := open(t, s, func(o *Options) { o.URL, o.RootCAs = url, x509.NewCertPool() })
	if err := stranger.Ping(t.Context()); err == nil {
		t.Error("an unknown certificate was accepted")
	}
}
