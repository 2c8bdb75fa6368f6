package strictjson

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// Nullable is a value that tells null from absent. Present is called with null or
// with what Target points to already set.
type Nullable interface {
	// Target is where a value other than null is decoded to.
	Target() any
	// Present says that the key was there, and whether its value was null.
	Present(null bool)
}

// Decode reads a JSON object into the struct that into points to. Fields are
// matched by the name in their "json" tag, exactly; one without a tag is not read.
// They are string, bool, int64, []T, structs, pointers to those, map[string]any and
// any (as of [Parse]), secret.Map (whose null members are unset Values), or
// Nullable. A field whose key is absent stays as it is; only a Nullable takes null.
// suggest gives the likeliest of the known names for a mistyped one, "" for none.
//
// Errors: those of [Parse]; fault.InvalidArgument with all violations, each at its
// JSON pointer.
func Decode(body []byte, into any, suggest func(name string, known []string) string) error {
	tree, err := Parse(body)
	if err != nil {
		return err
	}
	return DecodeTree(tree, into, suggest)
}

// DecodeTree is [Decode] for what Parse returned.
func DecodeTree(tree any, into any, suggest func(name string, known []string) string) error {
	d := decoder{suggest: suggest}
	if _, ok := tree.(map[string]any); !ok {
		return fault.New(fault.InvalidArgument, "the body has a problem").
			WithViolations(fault.Violation{Pointer: "", Code: "type", Message: "must be an object"})
	}
	d.decode(tree, reflect.ValueOf(into).Elem(), "")
	if len(d.bad) > 0 {
		return fault.New(fault.InvalidArgument, "the body has a problem").WithViolations(d.bad...)
	}
	return nil
}

type decoder struct {
	suggest func(name string, known []string) string
	bad     []fault.Violation
}

func (d *decoder) problem(pointer, code, message string) {
	d.bad = append(d.bad, fault.Violation{Pointer: pointer, Code: code, Message: message})
}

var (
	secretMap = reflect.TypeFor[secret.Map]()
	anyMap    = reflect.TypeFor[map[string]any]()
	anyType   = reflect.TypeFor[any]()
)

func (d *decoder) decode(v any, to reflect.Value, pointer string) {
	if n, ok := reflect.TypeAssert[Nullable](to.Addr()); ok {
		if v != nil {
			d.decode(v, reflect.ValueOf(n.Target()).Elem(), pointer)
		}
		n.Present(v == nil)
		return
	}
	mismatch := func(what string) { d.problem(pointer, "type", "must be "+what) }
	switch to.Type() {
	case secretMap:
		d.secrets(v, to, pointer)
		return
	case anyMap:
		if m, ok := v.(map[string]any); ok {
			to.Set(reflect.ValueOf(m))
		} else {
			mismatch("an object")
		}
		return
	case anyType:
		if v != nil {
			to.Set(reflect.ValueOf(v))
		}
		return
	}
	switch to.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(to.Type().Elem())
		before := len(d.bad)
		d.decode(v, fresh.Elem(), pointer)
		if len(d.bad) == before {
			to.Set(fresh)
		}
	case reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			mismatch("an object")
			return
		}
		d.object(m, to, pointer)
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			mismatch("a list")
			return
		}
		out := reflect.MakeSlice(to.Type(), len(list), len(list))
		for i, item := range list {
			d.decode(item, out.Index(i), pointer+"/"+strconv.Itoa(i))
		}
		to.Set(out)
	case reflect.String:
		if s, ok := v.(string); ok {
			to.SetString(s)
		} else {
			mismatch("a text")
		}
	case reflect.Bool:
		if b, ok := v.(bool); ok {
			to.SetBool(b)
		} else {
			mismatch("true or false")
		}
	case reflect.Int64:
		if i, ok := v.(int64); ok {
			to.SetInt(i)
		} else {
			mismatch("a whole number")
		}
	default:
		panic("strictjson: no decoding to " + to.Type().String())
	}
}

// object decodes an object's members into a struct's fields, embedded ones
// included.
func (d *decoder) object(m map[string]any, to reflect.Value, pointer string) {
	fields := map[string]reflect.Value{}
	collect(to, fields)
	known := slices.Sorted(maps.Keys(fields))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		at := pointer + "/" + Escape(name)
		field, ok := fields[name]
		if !ok {
			message := "is unknown"
			if near := d.suggest(name, known); near != "" {
				message = fmt.Sprintf("is unknown; did you mean %q?", near)
			}
			d.problem(at, "unknown", message)
			continue
		}
		d.decode(m[name], field, at)
	}
}

// Names lists the keys that Decode takes into the struct that into points to.
func Names(into any) []string {
	fields := map[string]reflect.Value{}
	collect(reflect.ValueOf(into).Elem(), fields)
	return slices.Sorted(maps.Keys(fields))
}

func collect(to reflect.Value, fields map[string]reflect.Value) {
	for i := range to.NumField() {
		f := to.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			collect(to.Field(i), fields)
		case name != "" && name != "-":
			fields[name] = to.Field(i)
		}
	}
}

// secrets hides each value at once. What is wrong with one is said without it.
func (d *decoder) secrets(v any, to reflect.Value, pointer string) {
	m, ok := v.(map[string]any)
	if !ok {
		d.problem(pointer, "type", "must be an object")
		return
	}
	out := make(secret.Map, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		switch s := m[name].(type) {
		case string:
			out[name] = secret.New(s)
		case nil:
			out[name] = secret.Value{}
		default:
			d.problem(pointer+"/"+Escape(name), "type", "must be a text, or null to clear it")
		}
	}
	to.Set(reflect.ValueOf(out))
}
