package adminapi

import (
	"encoding/base64"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// A cursor is where a page ended: the last key, spelled so that nobody builds one.
// It holds no right: what follows it is looked up within the caller's scope.

func cursorOf(list, key string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(list + ":" + key))
}

// keyOf reads a cursor of a list, "" for none.
// Errors: fault.InvalidArgument.
func keyOf(list, cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	key, ours := strings.CutPrefix(string(text), list+":")
	if err != nil || !ours || key == "" {
		return "", badCursor()
	}
	return key, nil
}

func badCursor() error {
	return fault.New(fault.InvalidArgument, "the cursor is not one of this list").
		WithViolations(fault.Violation{Pointer: "/query/cursor", Code: "format", Message: "is not a cursor of this list"})
}
