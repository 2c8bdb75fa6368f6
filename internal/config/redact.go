package config

import (
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

// Redacted writes the whole config as YAML, for support bundles and logs. A
// secret.Value prints as its redaction, and so does a URL's user part, should
// one ever pass validation, and its query: key servers take API keys there.
func (c *Config) Redacted() string {
	var b strings.Builder
	dump(&b, "", reflect.ValueOf(c).Elem())
	return b.String()
}

func dump(b *strings.Builder, indent string, v reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		key, field := t.Field(i).Tag.Get("yaml"), v.Field(i)
		if isSection(field.Type()) {
			fmt.Fprintf(b, "%s%s:\n", indent, key)
			dump(b, indent+"  ", field)
			continue
		}
		fmt.Fprintf(b, "%s%s: %s\n", indent, key, inline(field))
	}
}

// inline writes a value in YAML's flow style.
func inline(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case secret.Value:
		if !x.IsSet() {
			return `""`
		}
		return strconv.Quote(secret.Redacted)
	case time.Duration:
		return x.String()
	case Size:
		return x.String()
	case Loopback:
		if x.All || len(x.Ports) == 0 {
			return strconv.FormatBool(x.All)
		}
		return inline(reflect.ValueOf(x.Ports))
	}
	t := v.Type()
	switch t.Kind() {
	case reflect.String:
		return strconv.Quote(withoutSecrets(v.String()))
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = inline(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Map:
		items := make([]string, 0, v.Len())
		for _, k := range sortedMapKeys(v) {
			items = append(items, strconv.Quote(k.String())+": "+inline(v.MapIndex(k)))
		}
		return "{" + strings.Join(items, ", ") + "}"
	case reflect.Struct:
		items := make([]string, t.NumField())
		for i := range items {
			items[i] = t.Field(i).Tag.Get("yaml") + ": " + inline(v.Field(i))
		}
		return "{" + strings.Join(items, ", ") + "}"
	default:
		return fmt.Sprint(v.Interface())
	}
}

func sortedMapKeys(v reflect.Value) []reflect.Value {
	byName := make(map[string]reflect.Value, v.Len())
	for _, k := range v.MapKeys() {
		byName[k.String()] = k
	}
	out := make([]reflect.Value, 0, len(byName))
	for _, name := range sortedKeys(byName) {
		out = append(out, byName[name])
	}
	return out
}

// withoutSecrets cuts what may be a secret out of anything that looks like a URL.
func withoutSecrets(s string) string {
	if !strings.Contains(s, "://") || !strings.ContainsAny(s, "@?#") {
		return s
	}
	u, err := url.Parse(s)
	if err != nil {
		return secret.Redacted
	}
	if u.User != nil {
		u.User = url.User("redacted")
	}
	if u.RawQuery != "" {
		u.RawQuery = "redacted"
	}
	u.Fragment = ""
	return u.String()
}
