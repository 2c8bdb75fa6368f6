package resolver

import (
	"context"
	"sync/atomic"

	"github.com/patchbay-dev/patchbay/connector"
)

// failingPublisher fails to publish on demand.
type failingPublisher struct {
	Publisher
	fail atomic.Bool
}

func (p *failingPublisher) Publish(ctx context.Context, ms []connector.Message) error {
	if p.fail.Load() {
		return errDown
	}
	return p.Publisher.Publish(ctx, ms)
}
