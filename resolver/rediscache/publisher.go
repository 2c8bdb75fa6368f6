package rediscache

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Publisher implements resolver.Publisher on a Client. Each has a name of its
// own, under which it numbers what it publishes.
type Publisher struct {
	c      *Client
	name   string
	number int64
}

// NewPublisher returns a Publisher for one relay.
func (c *Client) NewPublisher() *Publisher { return &Publisher{c: c, name: rand.Text()[:12]} }

// A relay's calls may take longer than a sidecar's: nobody waits for them.
const publishTimeout = 2 * time.Second

// publishScript: KEYS revision; ARGV revision, channel, frame. Revision first,
// then the message: who hears of it finds the key moved.
var publishScript = redis.NewScript(`
local revision = tonumber(redis.call('GET', KEYS[1]) or '-1')
if revision < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1`)

// sentinelScript: KEYS sentinel; ARGV id.
var sentinelScript = redis.NewScript(`
local sent = tonumber(redis.call('GET', KEYS[1]) or '-1')
if sent < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1`)

// Publish implements resolver.Publisher. A message without a tenant only moves
// the sentinel.
func (p *Publisher) Publish(ctx context.Context, ms []connector.Message) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	last := int64(0)
	for _, m := range ms {
		last = max(last, m.ID)
		if m.Tenant.IsZero() {
			continue
		}
		p.number++
		b, err := json.Marshal(frame{Publisher: p.name, Number: p.number, Message: &m})
		if err != nil {
			return fault.New(fault.Internal, "the message cannot be encoded").WithCause(err)
		}
		err = publishScript.Run(ctx, p.c.rdb, []string{p.c.revisionKey(m.Tenant)}, m.Revision, p.c.channel(), b).Err()
		if err := classify(err); err != nil {
			return err
		}
	}
	return classify(sentinelScript.Run(ctx, p.c.rdb, []string{p.c.sentinelKey()}, last).Err())
}

// State implements resolver.Publisher: run and replication ids, of every master
// on a cluster.
func (p *Publisher) State(ctx context.Context) (string, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	identity, err := p.identity(ctx)
	if err != nil {
		return "", 0, err
	}
	s, err := p.c.rdb.Get(ctx, p.c.sentinelKey()).Result()
	if err := classify(err); err != nil {
		return "", 0, err
	}
	sentinel, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return identity, -1, nil // missing or spoiled: both mean "send again"
	}
	return identity, sentinel, nil
}

func (p *Publisher) identity(ctx context.Context) (string, error) {
	cluster, ok := p.c.rdb.(*redis.ClusterClient)
	if !ok {
		info, err := p.c.rdb.Info(ctx, "everything").Result()
		if err := classify(err); err != nil {
			return "", err
		}
		return identityOf(info), nil
	}
	var mu sync.Mutex
	var ids []string
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error {
		info, err := m.Info(ctx, "everything").Result()
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, identityOf(info))
		return err
	})
	slices.Sort(ids)
	return strings.Join(ids, ","), classify(err)
}

func identityOf(info string) string {
	return infoField(info, "run_id") + "/" + infoField(info, "master_replid")
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// heartbeatScript: ARGV channel, frame, identity. It looks at the server that
// runs it, so that a failover between check and heartbeat can't go unseen.
var heartbeatScript = redis.NewScript(`
local function field(info, name)
  return string.match(info, name .. ':([%w]+)') or ''
end
local identity = field(redis.call('INFO', 'server'), 'run_id') .. '/' .. field(redis.call('INFO', 'replication'), 'master_replid')
if identity ~= ARGV[3] then
  return 0
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1`)

// Heartbeat implements resolver.Publisher. On a cluster the masters' identities
// are read again just before, not in the same step.
func (p *Publisher) Heartbeat(ctx context.Context, identity string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	p.number++
	b, err := json.Marshal(frame{Publisher: p.name, Number: p.number})
	if err != nil {
		return false, fault.New(fault.Internal, "the heartbeat cannot be encoded").WithCause(err)
	}
	if _, ok := p.c.rdb.(*redis.ClusterClient); ok {
		now, err := p.identity(ctx)
		if err != nil {
			return false, err
		}
		if now != identity {
			return false, nil
		}
		return true, classify(p.c.rdb.Publish(ctx, p.c.channel(), b).Err())
	}
	n, err := heartbeatScript.Run(ctx, p.c.rdb, nil, p.c.channel(), b, identity).Int()
	if err := classify(err); err != nil {
		return false, err
	}
	return n == 1, nil
}
