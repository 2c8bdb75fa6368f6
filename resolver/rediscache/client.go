package rediscache

import (
	"context"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Options say where Redis is.
type Options struct {
	URL    secret.Value // redis:// or rediss://, with user and password
	Mode   string       // standalone (default), sentinel or cluster
	Addrs  []string     // sentinels or cluster seeds; the URL's host when empty
	Master string       // of sentinel mode
	// Prefix of every key and channel; default "pb". Sidecars and relays of one
	// fleet share it.
	Prefix  string
	Timeout time.Duration // of one command; default 100 ms
	// RootCAs verify the server of a rediss URL; nil: the system's.
	RootCAs *x509.CertPool
}

// Client implements resolver.Shared. Its Feed and Publisher share its
// connections' settings. Safe for concurrent use.
type Client struct {
	rdb     redis.UniversalClient
	servers []string // as configured
	dialled dialled
	prefix  string
	timeout time.Duration
	// downUntil (Unix ns, 0: up) spares callers the timeout of a Redis that has
	// just failed; then one of them tries. Jittered, so that a fleet does not come
	// back at once.
	downUntil atomic.Int64
}

// quiet silences go-redis' own logger, which writes lines of its own format to
// standard error; what fails is returned and counted.
var quiet sync.Once

type noLog struct{}

func (noLog) Printf(context.Context, string, ...any) {}

// Open makes a client. It does not dial: a sidecar starts without Redis.
// Errors: fault.InvalidArgument for a URL or mode that can't be used.
func Open(o Options) (*Client, error) {
	quiet.Do(func() { redis.SetLogger(noLog{}) })
	u, err := redis.ParseURL(o.URL.Reveal())
	if err != nil {
		// The error text repeats the URL, password included: no cause.
		return nil, fault.New(fault.InvalidArgument, "the Redis URL cannot be parsed")
	}
	if o.Prefix == "" {
		o.Prefix = "pb"
	}
	if o.Timeout <= 0 {
		o.Timeout = 100 * time.Millisecond
	}
	addrs := slices.Clone(o.Addrs) // go-redis appends to what it is given
	if len(addrs) == 0 {
		addrs = []string{u.Addr}
	}
	if u.TLSConfig != nil && o.RootCAs != nil {
		u.TLSConfig.RootCAs = o.RootCAs
	}
	// Each call's context bounds it; the client's own timeouts are those of the
	// slowest, a relay's. One dial is one try: the next call dials again.
	uo := &redis.UniversalOptions{
		Addrs: addrs, DB: u.DB, Username: u.Username, Password: u.Password, TLSConfig: u.TLSConfig,
		DialTimeout: 5 * o.Timeout, ReadTimeout: publishTimeout, WriteTimeout: publishTimeout,
		PoolSize: 16, ConnMaxIdleTime: 5 * time.Minute, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	c := &Client{prefix: o.Prefix, timeout: o.Timeout, servers: slices.Clone(addrs), dialled: dialled{last: map[string]time.Time{}}}
	uo.Dialer = c.dialled.wrap(redis.NewDialer(&redis.Options{DialTimeout: uo.DialTimeout, TLSConfig: uo.TLSConfig}))
	switch o.Mode {
	case "", "standalone":
		uo.Addrs = addrs[:1]
		c.rdb = redis.NewClient(uo.Simple())
	case "sentinel":
		if o.Master == "" {
			return nil, fault.New(fault.InvalidArgument, "sentinel mode needs the name of the master")
		}
		uo.MasterName = o.Master
		c.rdb = redis.NewFailoverClient(uo.Failover())
	case "cluster":
		c.rdb = redis.NewClusterClient(uo.Cluster())
	default:
		return nil, fault.Newf(fault.InvalidArgument, "the Redis mode %q is not standalone, sentinel or cluster", o.Mode)
	}
	return c, nil
}

// Close releases the connections.
func (c *Client) Close() error {
	if err := c.rdb.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fault.New(fault.Internal, "the Redis client did not close").WithCause(err)
	}
	return nil
}

// Ping reaches Redis once. Errors: fault.Unavailable.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*c.timeout)
	defer cancel()
	return classify(c.rdb.Ping(ctx).Err())
}

func (c *Client) revisionKey(id tenant.ID) string { return c.prefix + ":{" + id.String() + "}:rev" }

func (c *Client) entryKey(k resolver.SharedKey) string {
	return c.prefix + ":{" + k.Tenant.String() + "}:e:" + k.Name
}

func (c *Client) channel() string     { return c.prefix + ":changes" }
func (c *Client) sentinelKey() string { return c.prefix + ":relay:sent" }

// classify is the one place that knows go-redis' errors.
func classify(err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		return nil
	}
	return fault.New(fault.Unavailable, "Redis did not answer").WithCause(err)
}

// call runs one bounded command, unless Redis has just failed.
func (c *Client) call(ctx context.Context, f func(ctx context.Context) error) error {
	pause := func() int64 { return time.Now().Add(200*time.Millisecond + rand.N(500*time.Millisecond)).UnixNano() }
	if until := c.downUntil.Load(); until != 0 {
		// When the pause is over, one caller tries and the others wait no longer.
		if time.Now().UnixNano() < until || !c.downUntil.CompareAndSwap(until, pause()) {
			return errDown
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := f(ctx)
	var reply redis.Error
	switch {
	case err == nil, errors.As(err, &reply):
		// Redis answered, if only with a refusal: of this command, not of all.
		if c.downUntil.Load() != 0 {
			c.downUntil.Store(0)
		}
	default:
		c.downUntil.Store(pause())
	}
	return classify(err)
}

var errDown = fault.New(fault.Unavailable, "Redis failed a moment ago")

// Get implements resolver.Shared with one MGET.
func (c *Client) Get(ctx context.Context, k resolver.SharedKey) (resolver.SharedReading, error) {
	var out resolver.SharedReading
	err := c.call(ctx, func(ctx context.Context) error {
		vs, err := c.rdb.MGet(ctx, c.revisionKey(k.Tenant), c.entryKey(k)).Result()
		if err != nil {
			return err
		}
		if s, ok := vs[0].(string); ok {
			if n, err := strconv.ParseInt(s, 10, 64); err == nil {
				out.Revision, out.HasRevision = n, true
			}
		}
		if s, ok := vs[1].(string); ok {
			out.Entry = []byte(s)
		}
		return nil
	})
	return out, err
}

// fillScript: KEYS revision, entry; ARGV snapshot revision, entry, ms to live.
var fillScript = redis.NewScript(`
local snapshot = tonumber(ARGV[1])
local revision = tonumber(redis.call('GET', KEYS[1]) or '-1') or -1
if revision < snapshot then
  redis.call('SET', KEYS[1], ARGV[1])
  revision = snapshot
end
if revision == snapshot then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
  return 1
end
return 0`)

// Fill implements resolver.Shared.
func (c *Client) Fill(ctx context.Context, k resolver.SharedKey, revision int64, entry []byte, live time.Duration) error {
	ms := live.Milliseconds()
	if ms <= 0 {
		return nil
	}
	return c.call(ctx, func(ctx context.Context) error {
		return fillScript.Run(ctx, c.rdb, []string{c.revisionKey(k.Tenant), c.entryKey(k)}, revision, entry, ms).Err()
	})
}

// Revisions implements resolver.Shared: one pipeline, which a cluster splits by slot.
func (c *Client) Revisions(ctx context.Context, ids []tenant.ID) (map[tenant.ID]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*c.timeout)
	defer cancel()
	cmds := make([]*redis.StringCmd, len(ids))
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.Get(ctx, c.revisionKey(id))
		}
		return nil
	})
	if err := classify(err); err != nil {
		return nil, err
	}
	out := make(map[tenant.ID]int64, len(ids))
	for i, cmd := range cmds {
		// Pipelined reports the first error only, and a missing key is one.
		if err := classify(cmd.Err()); err != nil {
			return nil, err
		}
		if n, err := cmd.Int64(); err == nil {
			out[ids[i]] = n
		}
	}
	return out, nil
}

// lowerScript: KEYS revision; ARGV disproved, actual.
var lowerScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2])
  return 1
end
return 0`)

// Lower implements resolver.Shared.
func (c *Client) Lower(ctx context.Context, id tenant.ID, disproved, actual int64) error {
	return c.call(ctx, func(ctx context.Context) error {
		return lowerScript.Run(ctx, c.rdb, []string{c.revisionKey(id)}, disproved, actual).Err()
	})
}
