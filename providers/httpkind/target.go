package httpkind

import (
	"net/url"
	"slices"
	"strings"

	"github.com/patchbay-dev/patchbay/providers"
)

// target is a URL of the file, taken apart when the file is loaded: which host a
// request goes to must be plain from the file, and no value may move it.
type target struct {
	path    string // in the file
	purpose string // of the operator's endpoint that may stand in for origin
	origin  string // "https://api.vendor.example": literal, or
	base    string // the param of type url that the URL begins with, or
	scheme  string // "https" or "http", before
	host    string // the param of type host, and
	port    string // the param of type port, or digits, or ""
	tail    []part // the path, from its first slash; may be empty
}

// params lists the params that decide where the request goes.
func (t *target) params() []string {
	var names []string
	for _, n := range []string{t.base, t.host, t.port} {
		if n != "" && strings.Trim(n, "0123456789") != "" {
			names = append(names, n)
		}
	}
	return names
}

// typed tells whether a tenant's param names the host.
func (t *target) typed() bool { return t.base != "" || t.host != "" }

const hostRule = "the host of a URL is literal, or it is one param of type url ({{base_url}}/path) or host (https://{{host}}/path)"

// target takes a template apart. kinds tells a param's type, "" for a secret.
func (d *decoder) target(tm template, purpose string, kinds map[string]providers.Type) *target {
	t := &target{path: tm.path, purpose: purpose}
	parts := slices.Clone(tm.parts)
	if first := parts[0]; first.name != "" {
		if kinds[first.name] != providers.URL || first.plus {
			d.addAt(tm.path, hostRule)
			return nil
		}
		t.base, parts = first.name, parts[1:]
	} else if !d.authority(t, &parts, kinds) {
		return nil
	}
	if len(parts) > 0 && parts[0].name != "" && !parts[0].plus || len(parts) > 0 && parts[0].name == "" && parts[0].text[0] != '/' {
		d.addAt(tm.path, hostRule)
		return nil
	}
	for i, p := range parts {
		if p.name == "" && strings.ContainsAny(p.text, "?# \\") {
			d.addAt(tm.path, "a URL has no ? and no #: put parameters under query")
			return nil
		}
		if p.plus && i > 0 && strings.HasSuffix(parts[i-1].text, "/") {
			d.addAt(tm.path, "{{+%s}} brings its own slash: leave out the one before it", p.name)
			return nil
		}
	}
	t.tail = parts
	return t
}

// authority reads scheme, host and port off the front of parts.
func (d *decoder) authority(t *target, parts *[]part, kinds map[string]providers.Type) bool {
	first := (*parts)[0].text
	scheme, rest, ok := strings.Cut(first, "://")
	if !ok || scheme != "https" && scheme != "http" {
		d.addAt(t.path, "a URL begins with https:// or http://, or with a param of type url")
		return false
	}
	if rest == "" && len(*parts) > 1 { // https://{{host}}
		host := (*parts)[1]
		if kinds[host.name] != providers.Host || host.plus {
			d.addAt(t.path, hostRule)
			return false
		}
		t.scheme, t.host, *parts = scheme, host.name, (*parts)[2:]
		return d.port(t, parts, kinds)
	}
	authority, tail, _ := strings.Cut(rest, "/")
	if len(tail) < len(rest)-len(authority) {
		tail = "/" + tail
	}
	origin := scheme + "://" + authority
	u, err := url.Parse(origin)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Host != authority || strings.ContainsAny(authority, "?#@\\ ") ||
		tail == "" && len(*parts) > 1 && !(*parts)[1].plus { // https://api.{{region}}.vendor.example
		d.addAt(t.path, hostRule)
		return false
	}
	t.origin = origin
	if tail == "" {
		*parts = (*parts)[1:]
	} else {
		(*parts)[0].text = tail
	}
	return true
}

// port reads ":25" or ":{{port}}" after a host param.
func (d *decoder) port(t *target, parts *[]part, kinds map[string]providers.Type) bool {
	if len(*parts) == 0 || (*parts)[0].name != "" || (*parts)[0].text[0] != ':' {
		return true
	}
	digits, tail, _ := strings.Cut((*parts)[0].text[1:], "/")
	if len((*parts)[0].text) > 1+len(digits) {
		tail = "/" + tail
	}
	switch {
	case digits == "" && tail == "" && len(*parts) > 1 && kinds[(*parts)[1].name] == providers.Port:
		t.port, *parts = (*parts)[1].name, (*parts)[2:]
		return true
	case digits != "" && len(digits) <= 5 && strings.Trim(digits, "0123456789") == "" && (tail != "" || len(*parts) == 1):
		t.port = digits
		if tail == "" {
			*parts = (*parts)[1:]
		} else {
			(*parts)[0].text = tail
		}
		return true
	}
	d.addAt(t.path, "after the host comes a port in digits or a param of type port")
	return false
}

// address renders the URL. The problem is for the admin; it repeats no value.
func (t *target) address(rt providers.Runtime, kind providers.Kind, v values) (*url.URL, string) {
	var base string
	switch {
	case t.origin != "":
		base = rt.Endpoint(kind, t.purpose, t.origin)
	case t.base != "":
		text, ok := v.text(t.base)
		if !ok {
			return nil, missing(t.base)
		}
		base = text
	default:
		host, ok := v.text(t.host)
		if !ok {
			return nil, missing(t.host)
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		base = t.scheme + "://" + host
		if port := t.port; port != "" {
			if strings.Trim(port, "0123456789") != "" {
				if port, ok = v.text(t.port); !ok {
					return nil, missing(t.port)
				}
			}
			base += ":" + port
		}
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, "The address that the config leads to is not a URL."
	}
	tail, problem := t.escaped(v)
	if problem != "" || tail == "" {
		return u, problem
	}
	// The path is what is written here, escapes included: url.URL sends RawPath
	// where it is an encoding of Path.
	raw := strings.TrimRight(u.EscapedPath(), "/") + tail
	if u.Path, err = url.PathUnescape(raw); err != nil {
		return nil, "The address that the config leads to is not a URL."
	}
	u.RawPath = raw
	return u, ""
}

// escaped renders the path. A part that would be read as "here" or "one up" could
// leave the path that the file states.
func (t *target) escaped(v values) (text, problem string) {
	var b strings.Builder
	for _, p := range t.tail {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		value, ok := v.text(p.name)
		switch {
		case !ok && p.plus:
			continue
		case !ok || value == "":
			return "", missing(p.name)
		case p.plus:
			value = "/" + strings.TrimLeft(value, "/")
			for segment := range strings.SplitSeq(value[1:], "/") {
				b.WriteString("/" + url.PathEscape(segment))
			}
		default:
			b.WriteString(url.PathEscape(value))
		}
	}
	for segment := range strings.SplitSeq(b.String(), "/") {
		if segment == "." || segment == ".." {
			return "", "The address must not have . or .. as a part of its path."
		}
	}
	return b.String(), ""
}

func missing(name string) string { return "The config has no " + name + "." }
