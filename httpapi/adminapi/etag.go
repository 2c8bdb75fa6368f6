package adminapi

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// etag is a connector's version as an entity tag. It is for If-Match alone: reads
// are never answered with 304, because a test's result does not move it.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// version is the version that If-Match means (RFC 9110 section 13.1.1): the
// connector's own where one of the tags is its. 0: the header is absent, or "*",
// which is whatever is there.
// Errors: fault.StaleVersion for a header that doesn't match, a malformed one
// too; those of a read. restoring: the connector may be a deleted one.
func (k *call) version(ctx context.Context, id connector.ID, restoring bool) (int64, error) {
	given := k.c.Request().Header.PeekAll(headerIfMatch)
	if len(given) == 0 {
		return 0, nil
	}
	// Looked up first, so that a version tells nothing about what is beyond the
	// caller's reach.
	find := k.api.o.Service.Get
	if restoring {
		find = k.api.o.Service.Find
	}
	c, err := find(ctx, k.scope, id)
	if err != nil {
		return 0, err
	}
	for _, line := range given {
		for tag := range strings.SplitSeq(string(line), ",") {
			switch strings.TrimSpace(tag) {
			case "*":
				return 0, nil
			case etag(c.Version):
				return c.Version, nil
			}
		}
	}
	return 0, fault.New(fault.StaleVersion, "the connector is of another version than If-Match says")
}

// maxTries bounds how often a write that names no version looks again because
// somebody else wrote, a little later each time.
const maxTries = 30

// demanded runs a write of the operations that ask for If-Match with the version
// that it means; "*" is the one that is there, again and again while others write.
// Errors: fault.PreconditionRequired.
func demanded[O any](ctx context.Context, k *call, id connector.ID, write func(version int64) (O, error)) (O, error) {
	var none O
	if len(k.c.Request().Header.PeekAll(headerIfMatch)) == 0 {
		return none, fault.New(fault.PreconditionRequired, "say which version of the connector is meant (If-Match)")
	}
	version, err := k.version(ctx, id, false)
	if err != nil {
		return none, err
	}
	if version != 0 {
		return write(version)
	}
	for n := 1; ; n++ {
		c, err := k.api.o.Service.Get(ctx, k.scope, id)
		if err != nil {
			return none, err
		}
		out, err := write(c.Version)
		if fault.CodeOf(err) != fault.StaleVersion || n == maxTries {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(rand.N(time.Duration(n) * 5 * time.Millisecond)): //nolint:gosec // G404: a delay is no secret
		}
	}
}
