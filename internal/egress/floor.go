package egress

import (
	"context"
	"time"
)

// Floor is how long an answer to a tenant takes at least, from the start of what
// the tenant asked for, when it says that a host was denied. The package's
// documentation tells what it hides.
const Floor = time.Second

// WaitFloor blocks until a whole number of Floors has passed since begun, at
// least one, or until ctx ends. Whole numbers, because a look-up may take longer
// than one Floor, and by how much would tell a name that an internal server knows
// from one that it had to ask for.
func WaitFloor(ctx context.Context, begun time.Time) {
	took := time.Since(begun)
	timer := time.NewTimer(took.Truncate(Floor) + Floor - took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
