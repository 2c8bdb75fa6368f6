package vault

import (
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// maxFailures is where the back-off is at its longest. A refused login goes
// there at once: haste cures no wrong credential, and after five of them Vault
// locks the role out for 15 minutes.
const maxFailures = 20

// keep is the client's one background loop: first login, renewal, re-login
// before the end, the token file. It ends with Close.
func (c *Client) keep() {
	var seen fileState
	if c.o.Auth.Method == AuthToken {
		seen = stat(c.o.Auth.TokenFile)
	}
	failures := 0
	err := c.attempt(c.login.flight) // Open has put the flight there
	for {
		if err != nil {
			failures++
		} else {
			failures = 0
		}
		if err != nil && errors.Is(err, errRefused) {
			failures = maxFailures
		}
		timer := time.NewTimer(c.pause(failures))
		select {
		case <-c.ctx.Done():
			timer.Stop()
			return
		case <-c.kick: // a request has logged in, or tried to: the old plan is void
			timer.Stop()
			err = c.lastLogin()
			continue
		case <-timer.C:
		}
		if c.o.Auth.Method == AuthToken {
			now := stat(c.o.Auth.TokenFile)
			if now != seen {
				// Remembered only once it worked: a half-written file is read again.
				if err = c.loginOnce(); err == nil {
					seen = now
				}
				continue
			}
		}
		err = c.refresh(c.held.Load(), failures > 0)
	}
}

// pause is how long the keeper sleeps: a back-off after failures, else until
// the held lease is 60 to 80 % through. Jitter keeps a fleet that started
// together from renewing together.
func (c *Client) pause(failures int) time.Duration {
	d := time.Duration(1<<62 - 1)
	l := c.held.Load()
	switch {
	case failures > 0:
		d = c.o.BackoffMin << min(failures-1, maxFailures)
		if d <= 0 || d > c.o.BackoffMax {
			d = c.o.BackoffMax
		}
		d = d/2 + time.Duration(c.o.Rand()*float64(d/2))
	case l != nil && l.ttl > 0:
		d = time.Duration(float64(l.ttl) * (0.6 + 0.2*c.o.Rand()))
		d = max(d-c.o.Clock().Sub(l.issued), 10*time.Millisecond)
	}
	if c.o.Auth.Method == AuthToken {
		d = min(d, c.o.FilePoll)
	}
	return d
}

// refresh renews l or logs in again, when it is due. A token file's token can't
// be had by logging in: its agent must write another one.
func (c *Client) refresh(l *lease, failed bool) error {
	if l == nil {
		return c.loginOnce()
	}
	if l.ttl == 0 || !failed && c.o.Clock().Sub(l.issued) < l.ttl*6/10 {
		if failed && c.o.Auth.Method != AuthToken {
			return c.loginOnce()
		}
		return nil // woken by the file poll only
	}
	if l.renewable {
		renewed, err := c.renew(l)
		// Close to max_ttl a renewal still works and gives almost nothing.
		enough := err == nil && renewed.ttl >= l.first/2
		if enough || err != nil || c.o.Auth.Method == AuthToken {
			c.note("renewal", err)
		}
		if enough || c.o.Auth.Method == AuthToken {
			return err
		}
	}
	if c.o.Auth.Method == AuthToken {
		return nil
	}
	return c.loginOnce()
}

func (c *Client) renew(l *lease) (*lease, error) {
	begun := c.o.Clock()
	ans, err := c.send(c.ctx, l.token, http.MethodPost, "auth/token/renew-self", secret.NewBody([]byte("{}")))
	if err != nil {
		return nil, err
	}
	if ans.status == http.StatusForbidden || ans.status == http.StatusBadRequest {
		return nil, fault.New(fault.Unavailable, "Vault refuses to renew the token").WithCause(statusError{ans.status})
	}
	if ans.status != http.StatusOK {
		return nil, statusFault(ans.status)
	}
	renewed, err := leaseOf(ans.secret, l.first, begun)
	if err != nil {
		return nil, err
	}
	c.renewals.Add(1)
	// A login that a request forced meanwhile is newer than this renewal.
	c.held.CompareAndSwap(l, renewed)
	return renewed, nil
}

// fileState tells a changed token file from an unchanged one. Agents replace
// files by rename, so the modification time is enough with the size.
type fileState struct {
	modified time.Time
	size     int64
}

func stat(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	return fileState{info.ModTime(), info.Size()}
}
