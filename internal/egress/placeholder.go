// Package egress: placeholder so that the tree compiles; delete this file when
// the real ErrDenied, ErrResolve and Floor are written.
package egress

import (
	"errors"
	"time"
)

// ErrDenied, ErrResolve: see the real ones.
var (
	ErrDenied  = errors.New("denied")
	ErrResolve = errors.New("resolve")
)

// Floor is the real one's.
const Floor = time.Second
