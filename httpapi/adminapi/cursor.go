package adminapi

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// cursor is where a page of a list ended: the last key, spelled so that nobody
// builds one. It holds no right: what follows it is looked up within the caller's
// scope. The zero key is none: before the first page, and after the last one.
type cursor[K comparable] struct {
	list  string
	parse func(string) (K, error)
}

// next is the next_cursor of a page that ended with key.
func (c cursor[K]) next(key K) *string {
	var none K
	return ref(base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s:%v", c.list, key)), key != none)
}

// key reads a cursor of this list.
// Errors: fault.InvalidArgument.
func (c cursor[K]) key(text string) (key K, err error) {
	if text == "" {
		return key, nil
	}
	spelled, err := base64.RawURLEncoding.Strict().DecodeString(text)
	given, ours := strings.CutPrefix(string(spelled), c.list+":")
	if err != nil || !ours {
		return key, badCursor()
	}
	if key, err = c.parse(given); err != nil {
		return key, badCursor()
	}
	return key, nil
}

// position is the key of lists that are in the order of a number.
func position(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && n < 1 {
		return 0, strconv.ErrRange
	}
	return n, err
}

func badCursor() error {
	return fault.New(fault.InvalidArgument, "the cursor is not one of this list").
		WithViolations(fault.Violation{Pointer: "/query/cursor", Code: "format", Message: "is not a cursor of this list"})
}
