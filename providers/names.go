package providers

import (
	"regexp"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Category says what a connector is for. The declared ones are below; a kind
// may declare another, with a label.
type Category string

// The built-in categories (CONTRACT, "Local API").
const (
	Email     Category = "email"
	Storage   Category = "storage"
	Messaging Category = "messaging"
	AI        Category = "ai"
	Webhook   Category = "webhook"
	API       Category = "api"
)

// Kind names what a connector is: "smtp", "s3".
type Kind string

var nameGrammar = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// ParseCategory checks the grammar [a-z][a-z0-9_]{0,31}; whether the category
// is declared is the registry's to say. Errors: fault.InvalidArgument.
func ParseCategory(s string) (Category, error) {
	if !nameGrammar.MatchString(s) {
		return "", fault.New(fault.InvalidArgument,
			"a category consists of a-z, 0-9 and _, starts with a letter and has at most 32 characters")
	}
	return Category(s), nil
}

// ParseKind checks the same grammar. Errors: fault.InvalidArgument.
func ParseKind(s string) (Kind, error) {
	if !nameGrammar.MatchString(s) {
		return "", fault.New(fault.InvalidArgument,
			"a kind consists of a-z, 0-9 and _, starts with a letter and has at most 32 characters")
	}
	return Kind(s), nil
}
