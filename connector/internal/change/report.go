package change

import (
	"encoding/json"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// CheckTest tells whether a test's outcome can be recorded; report may be empty.
func CheckTest(state connector.State, report []byte) error {
	if state == connector.StateNeedsReauthorization {
		return fault.New(fault.InvalidArgument, "a test does not decide that a connector needs to be authorized again")
	}
	if len(report) == 0 {
		return nil
	}
	return checkReport(report)
}

func checkReport(report []byte) error {
	if !json.Valid(report) {
		return fault.New(fault.InvalidArgument, "a test report must be JSON")
	}
	return Text(string(report))
}

// CheckTestOrder refuses the report of a test that ended after a later one of the
// same version had been recorded. Reports that tell no time are of any order.
// Errors: fault.StaleVersion.
func CheckTestOrder(stored, report []byte) error {
	was, is := testedAt(stored), testedAt(report)
	if was.At == nil || is.At == nil || was.Version != is.Version || !is.At.Before(*was.At) {
		return nil
	}
	return fault.New(fault.StaleVersion, "a later test of the connector is recorded already")
}

// tested is what the order of two reports depends on.
type tested struct {
	At      *time.Time `json:"tested_at"`
	Version int64      `json:"version"`
}

func testedAt(report []byte) (t tested) {
	if json.Unmarshal(report, &t) != nil {
		return tested{} // no report, or one that is no object of this form
	}
	return t
}
