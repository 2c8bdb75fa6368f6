package rediscache

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
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

// revisionScript: KEYS revision; ARGV revision.
const revisionScript = `
if (tonumber(redis.call('GET', KEYS[1]) or '-1') or -1) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1`

// publishScript: KEYS sentinel; ARGV channel, id, frames. On a cluster it runs
// where the sentinel lives, always the same node: over the bus of a cluster only
// one node's messages keep their order.
var publishScript = redis.NewScript(`
for i = 3, #ARGV do
  redis.call('PUBLISH', ARGV[1], ARGV[i])
end
if (tonumber(redis.call('GET', KEYS[1]) or '-1') or -1) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1`)

// Publish implements resolver.Publisher, in two round trips however many the
// messages are: all revision keys, then all messages, so that who hears of a
// revision finds its key moved.
func (p *Publisher) Publish(ctx context.Context, ms []connector.Message) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	last := int64(0)
	revisions := make(map[tenant.ID]int64)
	frames := make([]any, 0, len(ms)+2)
	frames = append(frames, p.c.channel(), nil)
	for _, m := range ms {
		last = max(last, m.ID)
		if m.Tenant.IsZero() {
			continue
		}
		revisions[m.Tenant] = max(revisions[m.Tenant], m.Revision)
		b, err := p.frame(&m)
		if err != nil {
			return err
		}
		frames = append(frames, b)
	}
	frames[1] = last
	if len(revisions) > 0 {
		_, err := p.c.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for id, revision := range revisions {
				pipe.Eval(ctx, revisionScript, []string{p.c.revisionKey(id)}, revision)
			}
			return nil
		})
		if err := classify(err); err != nil {
			return err
		}
	}
	return classify(publishScript.Run(ctx, p.c.rdb, []string{p.c.sentinelKey()}, frames...).Err())
}

// frame numbers and encodes a message, a heartbeat when m is nil. A number is
// never used again, even if it was not published: that is a gap, and a break.
func (p *Publisher) frame(m *connector.Message) ([]byte, error) {
	p.number++
	b, err := json.Marshal(frame{Publisher: p.name, Number: p.number, Message: m})
	if err != nil {
		return nil, fault.New(fault.Internal, "the message cannot be encoded").WithCause(err)
	}
	return b, nil
}

// identityLua is the identity of the server that runs the script.
const identityLua = `
local function field(section, name)
  return string.match(redis.call('INFO', section), name .. ':([%w]+)') or ''
end
local identity = field('server', 'run_id') .. '/' .. field('replication', 'master_replid')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sentinel = tonumber(redis.call('GET', KEYS[1]) or '-1') or -1
`

// stateScript: KEYS sentinel.
var stateScript = redis.NewScript(identityLua + `return {identity, sentinel, now}`)

// heartbeatScript: KEYS sentinel; ARGV channel, frame, identity, sentinel, time,
// ms. The server that runs it looks at itself, so that neither a failover nor a
// flush nor a pause between check and heartbeat goes unseen.
var heartbeatScript = redis.NewScript(identityLua + `
if identity ~= ARGV[3] or sentinel < tonumber(ARGV[4]) or now - tonumber(ARGV[5]) >= tonumber(ARGV[6]) then
  return 0
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1`)

// State implements resolver.Publisher. On a cluster the identity is that of the
// sentinel's node and then of all masters.
func (p *Publisher) State(ctx context.Context) (resolver.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	others, err := p.masters(ctx)
	if err != nil {
		return resolver.Standing{}, err
	}
	got, err := stateScript.Run(ctx, p.c.rdb, []string{p.c.sentinelKey()}).Slice()
	if err := classify(err); err != nil {
		return resolver.Standing{}, err
	}
	var s resolver.Standing
	var ok [3]bool
	if len(got) == len(ok) {
		s.Identity, ok[0] = got[0].(string)
		s.Sentinel, ok[1] = got[1].(int64)
		s.At, ok[2] = got[2].(int64)
	}
	if ok != [3]bool{true, true, true} {
		return resolver.Standing{}, errUnexpected
	}
	s.Identity += others
	return s, nil
}

// Heartbeat implements resolver.Publisher. On a cluster the other masters'
// identities are read again just before, not in the same step.
func (p *Publisher) Heartbeat(ctx context.Context, s resolver.Standing, within time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	others, err := p.masters(ctx)
	if err != nil {
		return false, err
	}
	own, ok := strings.CutSuffix(s.Identity, others)
	if !ok {
		return false, nil
	}
	before := p.number
	b, err := p.frame(nil)
	if err != nil {
		return false, err
	}
	n, err := heartbeatScript.Run(ctx, p.c.rdb, []string{p.c.sentinelKey()},
		p.c.channel(), b, own, s.Sentinel, s.At, within.Milliseconds()).Int()
	if err := classify(err); err != nil {
		return false, err
	}
	if n == 0 {
		p.number = before // clearly not published: no gap
	}
	return n == 1, nil
}

// masters joins the identities of a cluster's masters; "" when there is no cluster.
func (p *Publisher) masters(ctx context.Context) (string, error) {
	cluster, ok := p.c.rdb.(*redis.ClusterClient)
	if !ok {
		return "", nil
	}
	var mu sync.Mutex
	var ids []string
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error {
		server, err := m.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		replication, err := m.Info(ctx, "replication").Result()
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, ","+infoField(server, "run_id")+"/"+infoField(replication, "master_replid"))
		return err
	})
	slices.Sort(ids)
	return strings.Join(ids, ""), classify(err)
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
