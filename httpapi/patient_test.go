package httpapi

import (
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// armed is a connection that notes what is armed, counted from its start.
type armed struct {
	net.Conn
	start         time.Time
	reads, writes []time.Duration
}

func (a *armed) Read([]byte) (int, error)  { return 1, nil }
func (a *armed) Write([]byte) (int, error) { return 1, nil }
func (a *armed) SetReadDeadline(t time.Time) error {
	a.reads = append(a.reads, t.Sub(a.start))
	return nil
}
func (a *armed) SetWriteDeadline(t time.Time) error {
	a.writes = append(a.writes, t.Sub(a.start))
	return nil
}

// TestPatientDeadlines: what is armed when a read or write begins is never later
// than the timeout says, and earlier by no more than slack. r reads, w writes, a
// dot is 600 ms.
func TestPatientDeadlines(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, c := range map[string]struct {
		steps         string
		reads, writes []time.Duration
	}{
		"the first request has the read timeout":       {"r", []time.Duration{10 * s}, nil},
		"a slow first request gains nothing":           {"r..r..r..r", []time.Duration{10 * s}, nil},
		"waiting for the next is idle":                 {"rwr", []time.Duration{10 * s, 120 * s}, []time.Duration{10 * s}},
		"a burst arms once":                            {"rwrwrwrwr", []time.Duration{10 * s, 120 * s}, []time.Duration{10 * s}},
		"later by little is left":                      {"rw.rw.r", []time.Duration{10 * s, 120 * s}, []time.Duration{10 * s}},
		"later by more is armed":                       {"rwr.wr.wr", []time.Duration{10 * s, 120 * s, 121200 * time.Millisecond}, []time.Duration{10 * s, 11200 * time.Millisecond}},
		"a slow later request counts from its start":   {"rw.....r.r.r.r", []time.Duration{10 * s, 120 * s, 13600 * time.Millisecond}, []time.Duration{10 * s}},
		"after a slow one, idle again":                 {"rwrrwr", []time.Duration{10 * s, 120 * s, 10 * s, 120 * s}, []time.Duration{10 * s}},
		"a long answer in parts is one write after it": {"rww..w", []time.Duration{10 * s}, []time.Duration{10 * s, 11200 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				under := &armed{start: time.Now()}
				conn := &patientConn{Conn: under, timeouts: timeouts{read: 10 * s, write: 10 * s, idle: 120 * s}}
				for _, step := range c.steps {
					switch step {
					case 'r':
						_, _ = conn.Read(nil)
					case 'w':
						_, _ = conn.Write(nil)
					case '.':
						time.Sleep(600 * time.Millisecond)
					}
				}
				if !slices.Equal(under.reads, c.reads) || !slices.Equal(under.writes, c.writes) {
					t.Errorf("%s armed %v and %v, want %v and %v", c.steps, under.reads, under.writes, c.reads, c.writes)
				}
			})
		})
	}
}
