package resolver

import "github.com/maypok86/otter/v2"

type otterOp = otter.ComputeOp

const (
	otterCancel     = otter.CancelOp
	otterWrite      = otter.WriteOp
	otterInvalidate = otter.InvalidateOp
)
