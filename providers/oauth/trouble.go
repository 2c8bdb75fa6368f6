package oauth

import (
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// class says what a failure means for the next try.
type class int

const (
	outage  class = iota // the issuer gave no clear answer
	paused               // another process has just met an outage
	ours                 // a store of our own did not answer, or we failed
	client               // the issuer refuses the OAuth2 client, or the request
	refused              // the issuer refuses the grant, or there is none
)

// trouble is why there is no token.
type trouble struct {
	class class
	code  providers.TestCode
	err   *fault.Error  // without a time to come back
	after time.Duration // that the issuer asked for; 0: none
	// said: an outage that the issuer itself answered with. Without an answer it may
	// be this process' own.
	said bool
	// dropped: the request was sent whole, and nothing came back.
	dropped bool
}

// error is the trouble as callers get it. Who could come back is told when.
func (t *trouble) error(after time.Duration) error {
	err := t.err
	if t.class != refused {
		err = err.WithRetryAfter(max(after, time.Second))
	}
	return &providers.TokenError{Code: t.code, Err: err}
}

const (
	outageLeast, outageMost = time.Second, time.Minute
	oursLeast, oursMost     = 250 * time.Millisecond, 5 * time.Second
	// clientPause is for what only a person can cure. A cure comes with a new pin,
	// which doesn't wait for it.
	clientPause = time.Minute
	// refusedPause spares the database a storm; a new consent doesn't wait for it.
	refusedPause = 2 * time.Second
	// afterMost bounds what an issuer may ask for.
	afterMost = 5 * time.Minute
)

// pause is the time without a try after count failures in a row. Short-lived tokens
// are not waited for longer than half a life: what is back is noticed in time.
func (t *trouble) pause(count int, life time.Duration) time.Duration {
	switch t.class {
	case outage:
		most := outageMost
		if life > 0 {
			most = min(max(life/2, 2*outageLeast), outageMost)
		}
		return max(jittered(doubled(outageLeast, count, most)), min(t.after, afterMost))
	case paused:
		return t.after + jittered(200*time.Millisecond)
	case client:
		return max(jittered(clientPause), min(t.after, afterMost))
	case refused:
		return refusedPause
	default:
		return jittered(doubled(oursLeast, count, oursMost))
	}
}

func doubled(least time.Duration, count int, most time.Duration) time.Duration {
	return min(least<<min(max(count-1, 0), 16), most)
}

func noConsent() *trouble {
	return &trouble{class: refused, code: providers.CodeConsentMissing,
		err: fault.New(fault.NeedsReauthorization, "no account is connected yet")}
}

func consentEnded() *trouble {
	return &trouble{class: refused, code: providers.CodeNeedsReauthorization,
		err: fault.New(fault.NeedsReauthorization, "the account's consent has ended; connect it again")}
}

// ending is for what Close broke off, which says nothing of anybody else.
func ending() *trouble { return storage("the process is about to end") }

// storage is a failure of our own stores.
func storage(message string) *trouble {
	return &trouble{class: ours, code: providers.CodeStorageDown, err: fault.New(fault.Unavailable, message)}
}
