package providers

import (
	"maps"
	"math"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// formats are the named checks beyond the types'; a nil result is good.
var formats = map[string]func(string) *problem{
	"hostname": checkHostname,
	"mailbox":  checkMailbox,
	"json":     checkJSON,
}

// Formats lists the names that Validation.Format may have: hostname (a Host
// that is no IP address), mailbox (an e-mail address with or without a display
// name, RFC 5322 section 3.4), json.
func Formats() []string { return slices.Sorted(maps.Keys(formats)) }

func checkHost(s string) *problem {
	if _, err := netip.ParseAddr(s); err == nil {
		if strings.Contains(s, "%") {
			return wrong("format", "must not name a network interface")
		}
		return nil
	}
	return checkHostname(s)
}

// checkHostname accepts the names of RFC 1123, underscores too (container
// networks use them) and one trailing dot.
func checkHostname(s string) *problem {
	switch {
	case strings.Contains(s, "://"):
		return wrong("format", "must be a host name only, without a scheme such as https://")
	case strings.HasPrefix(s, "["):
		return wrong("format", "must be an IPv6 address without brackets")
	case strings.Contains(s, ":"):
		return wrong("format", "must be a host name only, without a port")
	}
	bad := wrong("format", "must be a host name or an IP address")
	name := strings.TrimSuffix(s, ".")
	if name == "" || len(name) > 253 {
		return bad
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return bad
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return bad
			}
		}
	}
	// A name whose last label is a number is read as an IPv4 address by some
	// resolvers (0x7f.1, 2130706433): ambiguous targets defeat egress policy.
	last := name[strings.LastIndexByte(name, '.')+1:]
	if _, err := strconv.ParseUint(last, 0, 64); err == nil {
		return bad
	}
	return nil
}

func checkURL(s string, schemes []string) *problem {
	if len(schemes) == 0 {
		schemes = []string{"https", "http"}
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.Host == "" || strings.ContainsAny(s, " \\") {
		return wrongf("format", "must be a URL such as %s://host", schemes[0])
	}
	if !slices.Contains(schemes, u.Scheme) {
		return wrong("format", "must be a URL with the scheme "+strings.Join(schemes, " or "))
	}
	// A password here would be stored, shown and cached as a param.
	if u.User != nil {
		return wrong("format", "must not contain a user name or password")
	}
	if u.Fragment != "" {
		return wrong("format", "must not contain a fragment")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return wrong("format", "must have a port from 1 to 65535")
		}
	}
	if checkHost(u.Hostname()) != nil {
		return wrong("format", "must be a URL with a valid host")
	}
	return nil
}

func checkEmail(s string) *problem {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || checkHostname(s[strings.LastIndexByte(s, '@')+1:]) != nil {
		// Addresses with a non-ASCII domain are valid mail (RFC 6531).
		if err == nil && a.Address == s && !ascii(s) {
			return nil
		}
		return wrong("format", "must be an e-mail address")
	}
	return nil
}

func checkMailbox(s string) *problem {
	a, err := mail.ParseAddress(s)
	if err != nil || checkEmail(a.Address) != nil {
		return wrong("format", "must be an e-mail address, with or without a name: Acme <no-reply@acme.example>")
	}
	return nil
}

func checkJSON(s string) *problem {
	if _, err := parseJSON(s); err != nil {
		return wrong("format", "must be JSON")
	}
	return nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// units are powers of 1024 with an i, of 1000 without (IEC 80000-13).
var units = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

func parseBytes(s string) (int64, bool) {
	factor := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, factor = strings.TrimRight(rest, " "), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, false
	}
	return n * factor, true
}
