package adminapi

import (
	"context"
	"strconv"
	"strings"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// etag is a connector's version as an entity tag. It is for If-Match alone: reads
// are never answered with 304, because a test's result does not move it.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// version is the version that If-Match means (RFC 9110 section 13.1.1): the
// connector's own where one of the tags is its. 0: the header is absent.
// Errors: fault.StaleVersion for a header that doesn't match, a malformed one
// too; those of a read.
func (k *call) version(ctx context.Context, id connector.ID) (int64, error) {
	given := k.c.Request().Header.PeekAll(headerIfMatch)
	if len(given) == 0 {
		return 0, nil
	}
	// Looked up first, so that a version tells nothing about what is beyond the
	// caller's reach. A deleted one is found too: it can be restored.
	c, err := k.api.o.Service.Find(ctx, k.scope, id)
	if err != nil {
		return 0, err
	}
	for _, line := range given {
		for tag := range strings.SplitSeq(string(line), ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || tag == etag(c.Version) {
				return c.Version, nil
			}
		}
	}
	return 0, fault.New(fault.StaleVersion, "the connector is of another version than If-Match says")
}

// demanded is version for the operations that ask for If-Match.
// Errors: fault.PreconditionRequired.
func (k *call) demanded(ctx context.Context, id connector.ID) (int64, error) {
	if len(k.c.Request().Header.PeekAll(headerIfMatch)) == 0 {
		return 0, fault.New(fault.PreconditionRequired, "say which version of the connector is meant (If-Match)")
	}
	return k.version(ctx, id)
}
