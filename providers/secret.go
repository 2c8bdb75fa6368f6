package providers

import (
	"strings"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

// checkSecret checks the content of a secret. Its messages say nothing of it.
func (p *Param) checkSecret(v secret.Value) *problem {
	s := v.Reveal()
	if s == "" {
		return wrong("empty", "is empty; omit it to keep the stored one, or clear it with null")
	}
	if isMask(s) {
		return wrong("masked", "is a mask, not a secret; omit it to keep the stored one")
	}
	if pr := checkText(s, p.Type.multiline()); pr != nil {
		return pr
	}
	if pr := p.textLength(s); pr != nil {
		return pr
	}
	if p.Type == JSON {
		if pr := checkJSON(s); pr != nil {
			return pr
		}
	}
	if p.Validate.Format != "" {
		if pr := formats[p.Validate.Format](s); pr != nil {
			return pr
		}
	}
	if p.re != nil && !p.re.MatchString(s) {
		return wrong("pattern", p.Validate.PatternMessage)
	}
	return nil
}

// isMask recognises what pages and exports print in a secret's place. Written
// back it would replace the secret for good.
func isMask(s string) bool {
	switch strings.ToLower(strings.Trim(s, "[]<>(){} ")) {
	case "redacted", "masked", "hidden":
		return strings.ContainsAny(s, "[<({")
	}
	runes := 0
	for _, r := range s {
		if !strings.ContainsRune("*•●∙·", r) {
			return false
		}
		runes++
	}
	return runes >= 3
}
