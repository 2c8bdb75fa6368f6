package fault_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// upstream is an error text as adapters meet it, with what must stay inside.
const upstream = "GET /v1/secret/data/patchbay/acme/0198: permission denied: canary-5b1e"

func TestCodesListsEveryConstant(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "fault.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var declared []fault.Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Code" {
			for _, v := range spec.Values {
				if literal, ok := v.(*ast.BasicLit); ok {
					declared = append(declared, fault.Code(strings.Trim(literal.Value, `"`)))
				}
			}
		}
		return true
	})
	listed := fault.Codes()
	slices.Sort(declared)
	slices.Sort(listed)
	if len(declared) == 0 || !slices.Equal(declared, listed) {
		t.Errorf("declared %v\nlisted   %v", declared, listed)
	}
	if unique := slices.Compact(slices.Clone(listed)); len(unique) != len(listed) {
		t.Errorf("a code is listed twice: %v", listed)
	}
}

func TestEveryCodeIsFoundThroughAnyWrapping(t *testing.T) {
	t.Parallel()
	wrappings := map[string]func(error) error{
		"bare":             func(err error) error { return err },
		"wrapped":          func(err error) error { return fmt.Errorf("read record: %w", err) },
		"wrapped twice":    func(err error) error { return fmt.Errorf("resolve: %w", fmt.Errorf("read record: %w", err)) },
		"joined":           func(err error) error { return errors.Join(io.EOF, err) },
		"one of two":       func(err error) error { return fmt.Errorf("%w and %w", io.EOF, err) },
		"wrapped and join": func(err error) error { return errors.Join(fmt.Errorf("read: %w", err), io.EOF) },
	}
	for _, code := range fault.Codes() {
		origins := map[string]error{
			"code":       code,
			"new":        fault.New(code, "a sentence"),
			"with cause": fault.New(code, "a sentence").WithCause(io.ErrUnexpectedEOF),
			"all":        fault.New(code, "a sentence").WithRetryAfter(time.Second).WithViolations(fault.Violation{Pointer: "/x"}).WithCause(io.EOF),
		}
		for origin, err := range origins {
			for wrapping, wrap := range wrappings {
				wrapped := wrap(err)
				// The target is the sentinel and the error is wrapped: with the
				// arguments swapped only the bare sentinel would be found.
				if !errors.Is(wrapped, code) {
					t.Errorf("%s, %s, %s: errors.Is finds no code", code, origin, wrapping)
				}
				if got := fault.CodeOf(wrapped); got != code {
					t.Errorf("%s, %s, %s: CodeOf is %s", code, origin, wrapping, got)
				}
				for _, other := range fault.Codes() {
					if other != code && errors.Is(wrapped, other) {
						t.Errorf("%s, %s, %s: is %s too", code, origin, wrapping, other)
					}
				}
			}
		}
	}
}

func TestUnclassifiedIsInternalAndNilIsNothing(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errors.New(upstream), io.EOF, context.Canceled, fmt.Errorf("x: %w", io.EOF)} {
		if fault.CodeOf(err) != fault.Internal || fault.Message(err) != "" || fault.Violations(err) != nil || fault.RetryAfter(err) != 0 {
			t.Errorf("%v: %s, %q", err, fault.CodeOf(err), fault.Message(err))
		}
	}
	if fault.CodeOf(nil) != "" || fault.Message(nil) != "" || fault.Outage(nil) {
		t.Error("nil is classified")
	}
	if fault.Message(fault.NotFound) != "" {
		t.Error("a bare code has a message")
	}
}

func TestTheOutermostSpeaks(t *testing.T) {
	t.Parallel()
	inner := fault.New(fault.NotFound, "there is no such secret").WithRetryAfter(time.Minute).
		WithViolations(fault.Violation{Pointer: "/inner"})
	outer := fmt.Errorf("resolve: %w", fault.New(fault.Unavailable, "the secret store can't be read").WithCause(inner))
	if fault.CodeOf(outer) != fault.Unavailable || fault.Message(outer) != "the secret store can't be read" {
		t.Errorf("%s, %q", fault.CodeOf(outer), fault.Message(outer))
	}
	// What the inner one told its own caller isn't this caller's.
	if fault.RetryAfter(outer) != 0 || fault.Violations(outer) != nil {
		t.Errorf("%v, %v", fault.RetryAfter(outer), fault.Violations(outer))
	}
	if !errors.Is(outer, fault.NotFound) {
		t.Error("the cause can't be asked for")
	}
}

func TestMessageAndCauseNeverMix(t *testing.T) {
	t.Parallel()
	cause := errors.New(upstream)
	for name, err := range map[string]*fault.Error{
		"with cause":         fault.New(fault.Unavailable, "Vault can't be reached").WithCause(cause),
		"cause, then others": fault.New(fault.Unavailable, "Vault can't be reached").WithCause(cause).WithRetryAfter(time.Second),
		"formatted":          fault.Newf(fault.Unavailable, "Vault can't be reached: %v", cause),
		"wrapped by format":  fault.Newf(fault.Unavailable, "Vault can't be reached: %s", fmt.Errorf("read: %w", cause)),
		"formatted fault":    fault.Newf(fault.Unavailable, "Vault can't be reached: %v", fault.New(fault.NotFound, "x").WithCause(cause)),
		"quoted":             fault.Newf(fault.Unavailable, "Vault can't be reached: %q %+v %#v", cause, cause, cause),
		"nested cause":       fault.New(fault.Unavailable, "Vault can't be reached").WithCause(fault.New(fault.Internal, "x").WithCause(cause)),
	} {
		if m := fault.Message(fmt.Errorf("resolve: %w", err)); strings.Contains(m, "canary") || !strings.HasPrefix(m, "Vault can't be reached") {
			t.Errorf("%s: the public message is %q", name, m)
		}
	}
	// The log gets both.
	err := fault.New(fault.InvalidArgument, "the params have problems").WithCause(cause).
		WithViolations(fault.Violation{Pointer: "/params/port", Code: "type", Message: "must be a number"})
	if want := "the params have problems; /params/port: must be a number: " + upstream; err.Error() != want {
		t.Errorf("logged as %q", err.Error())
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
}

func TestWithMethodsLeaveTheOriginalAlone(t *testing.T) {
	t.Parallel()
	// A package keeps one error as a variable and adds to it per request.
	one := fault.New(fault.RateLimited, "slow down").WithViolations(fault.Violation{Pointer: "/a"})
	b := one.WithViolations(fault.Violation{Pointer: "/b"})
	c := one.WithViolations(fault.Violation{Pointer: "/c"})
	d := one.WithRetryAfter(1500 * time.Millisecond)
	e := d.WithCause(io.EOF)
	pointers := func(err error) (p []string) {
		for _, v := range fault.Violations(err) {
			p = append(p, v.Pointer)
		}
		return p
	}
	if !slices.Equal(pointers(one), []string{"/a"}) || !slices.Equal(pointers(b), []string{"/a", "/b"}) || !slices.Equal(pointers(c), []string{"/a", "/c"}) {
		t.Errorf("%v, %v, %v", pointers(one), pointers(b), pointers(c))
	}
	if fault.RetryAfter(one) != 0 || fault.RetryAfter(d) != 1500*time.Millisecond || fault.RetryAfter(fmt.Errorf("x: %w", e)) != 1500*time.Millisecond {
		t.Errorf("%v, %v, %v", fault.RetryAfter(one), fault.RetryAfter(d), fault.RetryAfter(e))
	}
	if errors.Is(d, io.EOF) || !errors.Is(e, io.EOF) {
		t.Error("a cause reached the original")
	}
}

// An outage lets the resolver serve what it holds; a clear answer must not, or
// a deleted connector would live on for as long as max_stale.
func TestOnlyAnOutageKeepsOldAnswers(t *testing.T) {
	t.Parallel()
	outages := []fault.Code{fault.Unavailable, fault.DeadlineExceeded, fault.RateLimited, fault.Internal}
	for _, code := range fault.Codes() {
		if got, want := fault.Outage(fmt.Errorf("x: %w", fault.New(code, "y"))), slices.Contains(outages, code); got != want {
			t.Errorf("%s: outage is %v", code, got)
		}
	}
}
