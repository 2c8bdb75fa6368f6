package httpapi

import (
	"net"
	"testing"
	"time"
)

// armed is a connection that notes what is armed.
type armed struct {
	net.Conn
	reads, writes []time.Time
}

func (a *armed) Read([]byte) (int, error)           { return 0, nil }
func (a *armed) Write([]byte) (int, error)          { return 0, nil }
func (a *armed) SetReadDeadline(t time.Time) error  { a.reads = append(a.reads, t); return nil }
func (a *armed) SetWriteDeadline(t time.Time) error { a.writes = append(a.writes, t); return nil }

// TestPatientDeadlines: what is armed when a read or write begins is never later
// than asked, and never earlier by more than slack.
func TestPatientDeadlines(t *testing.T) {
	t.Parallel()
	zero := time.Now()
	at := func(d time.Duration) time.Time { return zero.Add(d) }
	for name, c := range map[string]struct{ set, armed []time.Time }{
		"none asked for":            {[]time.Time{{}}, nil},
		"the first":                 {[]time.Time{at(10 * time.Second)}, []time.Time{at(10 * time.Second)}},
		"later by little":           {[]time.Time{at(10 * time.Second), at(11 * time.Second)}, []time.Time{at(10 * time.Second)}},
		"later by little, often":    {[]time.Time{at(0), at(900 * time.Millisecond), at(1800 * time.Millisecond)}, []time.Time{at(0), at(1800 * time.Millisecond)}},
		"later by much":             {[]time.Time{at(10 * time.Second), at(2 * time.Minute)}, []time.Time{at(10 * time.Second), at(2 * time.Minute)}},
		"earlier, however little":   {[]time.Time{at(10 * time.Second), at(10*time.Second - 1)}, []time.Time{at(10 * time.Second), at(10*time.Second - 1)}},
		"none any more":             {[]time.Time{at(0), {}}, []time.Time{at(0), {}}},
		"one again after none":      {[]time.Time{at(0), {}, at(0)}, []time.Time{at(0), {}, at(0)}},
		"the same for ever is once": {[]time.Time{at(0), at(0), at(0)}, []time.Time{at(0)}},
	} {
		under := &armed{}
		conn := &patientConn{Conn: under}
		for _, d := range c.set {
			_ = conn.SetDeadline(at(time.Hour)) // replaced before anything waits
			_ = conn.SetReadDeadline(d)
			_ = conn.SetWriteDeadline(d)
			_, _ = conn.Read(nil)
			_, _ = conn.Write(nil)
		}
		for side, got := range map[string][]time.Time{"read": under.reads, "write": under.writes} {
			same := len(got) == len(c.armed)
			for i := range c.armed {
				same = same && got[i].Equal(c.armed[i])
			}
			if !same {
				t.Errorf("%s, %s: armed %v, want %v", name, side, got, c.armed)
			}
		}
	}
}
