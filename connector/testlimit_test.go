package connector

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Tenants come and go; what is kept of them is those of the last minute.
func TestLimitsForgetTenants(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	l := newTestLimits(1, 1, func() time.Time { return now })
	busy := tenant.MustID("busy")
	release, err := l.take(busy, ID{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		now = now.Add(100 * time.Millisecond) // 600 in a minute
		done, err := l.take(tenant.MustID(fmt.Sprintf("t%d", i)), NewID())
		if err != nil {
			t.Fatal(err)
		}
		done()
	}
	if n := len(l.tenants); n > 1024 || len(l.running) != 0 {
		t.Errorf("%d tenants, %d connectors are kept", n, len(l.running))
	}
	if l.tenants[busy] == nil {
		t.Error("a tenant with a test under way was forgotten")
	}
	release()
}

// deaf is a kind whose test hears of no deadline.
type deaf struct {
	providers.Base
	until chan struct{}
}

func (d deaf) Schema() *providers.Schema { return nil }
func (d deaf) Backend(context.Context, providers.Config) (providers.Backend, error) {
	return providers.Backend{}, nil
}

func (d deaf) TestConnection(context.Context, providers.Config, providers.TestOptions) (providers.TestReport, error) {
	<-d.until
	return providers.TestReport{OK: true}, nil
}

func (d deaf) Activate(context.Context, providers.Config) error { <-d.until; return nil }

// It costs its caller sixteen seconds, and itself its slot until it ends.
func TestKindThatHearsNoDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Service{o: ServiceOptions{Log: slog.New(slog.DiscardHandler), Now: time.Now}, limits: newTestLimits(100, 1, time.Now)}
		sc, d, begun := System(tenant.MustID("acme")), deaf{until: make(chan struct{})}, time.Now()
		r, err := s.run(t.Context(), sc, NewID(), d, providers.Config{}, TestOptions{Level: 1})
		if err != nil || r.OK || r.Code() != providers.CodeTimeout {
			t.Errorf("%+v, %v", r, err)
		}
		if took := time.Since(begun); took != providers.TestTimeout+time.Second {
			t.Errorf("it took %v", took)
		}
		if _, err := s.run(t.Context(), sc, NewID(), d, providers.Config{}, TestOptions{}); fault.CodeOf(err) != fault.RateLimited {
			t.Errorf("its slot: %v", err)
		}
		begun = time.Now()
		err = s.hook(t.Context(), sc, &Connector{}, "activate", func(ctx context.Context) error { return d.Activate(ctx, providers.Config{}) })
		if fault.CodeOf(err) != fault.DeadlineExceeded || time.Since(begun) != hookTimeout {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		close(d.until)
		synctest.Wait()
		if r, err := s.run(t.Context(), sc, NewID(), d, providers.Config{}, TestOptions{}); err != nil || !r.OK {
			t.Errorf("after it ended: %+v, %v", r, err)
		}
	})
}
