package config

import (
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	secretType   = reflect.TypeFor[secret.Value]()
	loopbackType = reflect.TypeFor[Loopback]()
)

// leaf is a key that a variable can override: a scalar, a list or a map.
type leaf struct {
	path  string
	value reflect.Value
	file  string // the file tag
}

// leaves lists all keys, in the order of the struct.
func leaves(c *Config) []leaf {
	var out []leaf
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		t := v.Type()
		for i := range t.NumField() {
			f := t.Field(i)
			p := join(path, f.Tag.Get("yaml"))
			if isSection(f.Type) {
				walk(p, v.Field(i))
				continue
			}
			out = append(out, leaf{path: p, value: v.Field(i), file: f.Tag.Get("file")})
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return out
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func variable(path string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != secretType && t != loopbackType
}

func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return true
	default:
		return t == secretType || t == loopbackType
	}
}

func isScalarList(t reflect.Type) bool { return t.Kind() == reflect.Slice && isScalar(t.Elem()) }

// expected names a type in a problem.
func expected(t reflect.Type) string {
	switch {
	case t == durationType:
		return "expected a duration with its unit, such as 500ms, 60s or 1h"
	case t == sizeType:
		return "expected a size, such as 512KiB, 32MiB or a number of bytes"
	case t == loopbackType:
		return "expected true, false or a list of ports"
	case t == secretType, t.Kind() == reflect.String:
		return "expected text"
	case t.Kind() == reflect.Bool:
		return "expected true or false"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return "expected a whole number"
	case t.Kind() == reflect.Slice:
		return "expected a list"
	default:
		return "expected a map of keys"
	}
}

// setText sets a scalar from text and returns what is wrong with it, or "".
func setText(v reflect.Value, text string) string {
	t := v.Type()
	switch {
	case t == durationType:
		d, err := time.ParseDuration(text)
		if err != nil || text == "0" {
			return expected(t)
		}
		if d < 0 {
			return "must not be negative"
		}
		v.SetInt(int64(d))
	case t == sizeType:
		n, ok := parseSize(text)
		if !ok {
			return expected(t)
		}
		v.SetInt(int64(n))
	case t == secretType:
		v.Set(reflect.ValueOf(secret.New(text)))
	case t == loopbackType:
		var l Loopback
		// 1 and 0 are what they are for every other switch; a port list of one that
		// means port 1 is written [1].
		if setText(reflect.ValueOf(&l.All).Elem(), text) != "" && setList(reflect.ValueOf(&l.Ports).Elem(), text) != "" {
			return expected(t)
		}
		v.Set(reflect.ValueOf(l))
	case t.Kind() == reflect.String:
		v.SetString(text)
	case t.Kind() == reflect.Bool:
		switch text {
		case "true", "1":
			v.SetBool(true)
		case "false", "0":
			v.SetBool(false)
		default:
			return expected(t)
		}
	default:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return expected(t)
		}
		if n < 0 {
			return "must not be negative"
		}
		v.SetInt(n)
	}
	return ""
}

// setList sets a list of scalars from comma-separated text; "" is the empty list.
func setList(v reflect.Value, text string) string {
	list := reflect.MakeSlice(v.Type(), 0, 4)
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			if strings.TrimSpace(text) == "" {
				continue
			}
			return "the list has an empty item"
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if message := setText(e, item); message != "" {
			return message
		}
		list = reflect.Append(list, e)
	}
	v.Set(list)
	return ""
}

var sizeUnits = []struct {
	suffix string
	factor int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

func parseSize(text string) (Size, bool) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil || int64(n) > math.MaxInt64/u.factor {
			return 0, false
		}
		return Size(int64(n) * u.factor), true
	}
	return 0, false
}

// String writes the size in the largest binary unit that is exact.
func (s Size) String() string {
	for _, u := range []struct {
		suffix string
		factor Size
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s != 0 && s%u.factor == 0 {
			return strconv.FormatInt(int64(s/u.factor), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
