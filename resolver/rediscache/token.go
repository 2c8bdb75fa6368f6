package rediscache

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/patchbay-dev/patchbay/tenant"
)

// The client is the TokenCache of package providers/oauth too. What it is given
// there is encrypted and has a hash for a name; here it is bytes. All commands are
// GET and SET.

func (c *Client) tokenKey(t tenant.ID, name string) string {
	return c.prefix + ":{" + t.String() + "}:t:" + name
}

// GetToken reads what is under a tenant's name; nil when there is nothing.
func (c *Client) GetToken(ctx context.Context, t tenant.ID, name string) (value []byte, err error) {
	err = c.call(ctx, func(ctx context.Context) error {
		b, err := c.rdb.Get(ctx, c.tokenKey(t, name)).Bytes()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		value = b
		return err
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// PutToken keeps a value for the given time, at least a millisecond.
func (c *Client) PutToken(ctx context.Context, t tenant.ID, name string, value []byte, live time.Duration) error {
	return c.call(ctx, func(ctx context.Context) error {
		return c.rdb.Set(ctx, c.tokenKey(t, name), value, max(live, time.Millisecond)).Err()
	})
}

// ClaimToken takes a name for the given time, and tells whether it did.
func (c *Client) ClaimToken(ctx context.Context, t tenant.ID, name string, live time.Duration) (mine bool, err error) {
	err = c.call(ctx, func(ctx context.Context) error {
		_, err := c.rdb.SetArgs(ctx, c.tokenKey(t, name), "", redis.SetArgs{Mode: "NX", TTL: max(live, time.Millisecond)}).Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		mine = err == nil
		return err
	})
	return mine, err
}
