package command

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/providers"
)

// printKind is what a person needs to configure a connector of the kind: what it
// wants to know and when, what its test does, and a record to start from.
func printKind(out io.Writer, s *providers.Schema) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s (%s): %s\n", s.Kind, s.Category, s.Label)
	for _, line := range wrapped(s.Description, lineWidth) {
		fmt.Fprintln(&b, line)
	}
	if len(s.Aliases) > 0 {
		fmt.Fprintf(&b, "In data files also: %s\n", joined(s.Aliases))
	}
	if s.Docs != "" {
		fmt.Fprintln(&b, s.Docs)
	}
	if to := destinations(s.Egress); to != "" {
		fmt.Fprintf(&b, "Connects to %s\n", to)
	}
	if err := printParams(&b, s); err != nil {
		return err
	}
	for _, a := range s.AuthModes {
		if a.Grant {
			fmt.Fprintf(&b, "\nSign-in %q needs somebody's consent", a.Label)
			if len(s.Scopes) > 0 {
				fmt.Fprintf(&b, " to\n  %s", strings.Join(s.Scopes, "\n  "))
			}
			fmt.Fprintln(&b, "\nOnce the connector is there, connect an account in Settings or by POST /api/connectors/ID/oauth/start")
		}
	}
	if len(s.Tests) > 0 {
		fmt.Fprintln(&b, "\nConnection test")
		for _, l := range s.Tests {
			fmt.Fprintf(&b, "  %d  %s", l.Level, l.Label)
			if l.SideEffects {
				b.WriteString(" (has side effects)")
			}
			fmt.Fprintln(&b)
		}
	}
	if len(s.Imports) > 0 {
		fmt.Fprintln(&b, "\nReads these files")
		w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		for _, f := range s.Imports {
			fmt.Fprintf(w, "  %s\t%s\n", f.Label, f.Hint)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintf(&b, "\nIn a data file\n%s", exampleRecord(s))
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func printParams(b *bytes.Buffer, s *providers.Schema) error {
	w := tabwriter.NewWriter(b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nPARAM\tTYPE\tREQUIRED\tDEFAULT\tMEANING")
	for _, f := range s.Fields() {
		if f.Type == providers.Notice {
			continue
		}
		kind := string(f.Type)
		if f.Secret {
			kind = "secret"
		}
		fallback := ""
		if f.Default != nil {
			fallback = fmt.Sprint(f.Default)
		}
		lines := wrapped(meaning(f), meaningWidth)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Name, kind, needed(f), fallback, lines[0])
		for _, line := range lines[1:] {
			fmt.Fprintf(w, "\t\t\t\t%s\n", line)
		}
	}
	return w.Flush()
}

const (
	// lineWidth is where running text breaks, meaningWidth where the table's last
	// column does: a terminal that breaks a row itself mixes up its columns.
	lineWidth    = 100
	meaningWidth = 56
)

// wrapped breaks text into lines of at most width letters, where its words allow
// it; none for a text without words.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// destinations is what a firewall has to let through.
func destinations(e providers.Egress) string {
	hosts := slices.Clone(e.Hosts)
	for _, name := range e.FromParams {
		hosts = append(hosts, "what "+name+" says")
	}
	if len(hosts) == 0 {
		return ""
	}
	text := strings.Join(hosts, ", ")
	if len(e.Ports) > 0 {
		ports := make([]string, 0, len(e.Ports))
		for _, p := range e.Ports {
			ports = append(ports, strconv.Itoa(p))
		}
		text += "; port " + strings.Join(ports, ", ")
	}
	if words := map[string]string{"always": "always with TLS", "optional": "with or without TLS", "starttls": "with TLS or STARTTLS"}[e.TLS]; words != "" {
		text += "; " + words
	}
	return text
}

// needed says when a param has to be given: "yes", "when auth is bearer", "".
func needed(f providers.Field) string {
	when := f.RequiredWhen
	switch {
	case f.Required && f.VisibleWhen == nil:
		return "yes"
	case f.Required:
		when = f.VisibleWhen
	case when == nil && f.VisibleWhen != nil:
		return "only when " + condition(*f.VisibleWhen)
	case when == nil:
		return ""
	}
	return "when " + condition(*when)
}

func meaning(f providers.Field) string {
	text := strings.TrimSuffix(f.Label, ".") + "."
	if f.Help != "" {
		text += " " + f.Help
	}
	if len(f.Options) > 0 {
		values := make([]string, 0, len(f.Options))
		for _, o := range f.Options {
			values = append(values, o.Value)
		}
		text += " One of " + strings.Join(values, ", ") + "."
	}
	if len(f.Aliases) > 0 {
		text += " In data files also " + strings.Join(f.Aliases, ", ") + "."
	}
	if f.Deprecated != "" {
		text += " Deprecated: " + strings.TrimSuffix(f.Deprecated, ".") + "."
	}
	if f.Example != nil && !f.Secret {
		example := fmt.Sprint(f.Example)
		if f.Type == providers.MapOf || f.Type == providers.List || f.Type == providers.MultiEnum {
			example = literal(f.Example)
		}
		text += " Such as " + example // last, since a full stop would look like a part of it
	}
	return strings.Join(strings.Fields(text), " ")
}

// condition is a condition in words.
func condition(c providers.Condition) string {
	several := func(cs []providers.Condition, word string) string {
		parts := make([]string, 0, len(cs))
		for _, each := range cs {
			text := condition(each)
			if len(each.All)+len(each.Any) > 1 {
				text = "(" + text + ")"
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, word)
	}
	switch {
	case len(c.All) > 0:
		return several(c.All, " and ")
	case len(c.Any) > 0:
		return several(c.Any, " or ")
	case c.Not != nil && c.Not.Field != "" && c.Not.Eq != nil:
		return c.Not.Field + " is not " + fmt.Sprint(c.Not.Eq)
	case c.Not != nil:
		return "not (" + condition(*c.Not) + ")"
	case c.Set != nil && *c.Set:
		return c.Field + " is set"
	case c.Set != nil:
		return c.Field + " is not set"
	case c.In != nil:
		values := make([]string, 0, len(c.In))
		for _, v := range c.In {
			values = append(values, fmt.Sprint(v))
		}
		return c.Field + " is " + strings.Join(values, " or ")
	default:
		return c.Field + " is " + fmt.Sprint(c.Eq)
	}
}

func joined(kinds []providers.Kind) string {
	var names []string
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// exampleFields are the fields of a config to start from: what has a telling
// example, and whatever the kind then asks for, without what excludes another.
func exampleFields(s *providers.Schema) []providers.Field {
	chosen := map[string]bool{}
	for _, f := range s.Fields() {
		chosen[f.Name] = f.Type != providers.Notice && f.VisibleWhen == nil && !f.Advanced && (f.Required || f.Example != nil)
	}
	// Hardly a connector works without a secret, required or not.
	if !slices.ContainsFunc(s.Secrets, func(p providers.Param) bool { return chosen[p.Name] || p.VisibleWhen != nil }) && len(s.Secrets) > 0 {
		chosen[s.Secrets[0].Name] = true
	}
	for range s.Fields() { // each round adds what the last one made necessary
		in := providers.Input{Params: map[string]any{}, Secrets: providers.Secrets{}}
		for _, f := range s.Fields() {
			switch {
			case !chosen[f.Name]:
			case f.Secret && f.Type == providers.JSON:
				in.Secrets[f.Name] = providers.NewSecret("{}")
			case f.Secret:
				in.Secrets[f.Name] = providers.NewSecret("example")
			default:
				in.Params[f.Name] = exampleValue(f)
			}
		}
		_, err := s.Decode(in, providers.DecodeOptions{})
		changed := false
		for _, v := range providers.Violations(err) {
			name := v.Pointer[strings.LastIndexByte(v.Pointer, '/')+1:]
			switch f := s.Param(name); {
			case v.Code == "required" && !chosen[name]:
				chosen[name], changed = true, true
			case v.Code == "conflict" && chosen[name] && f != nil && !f.Required:
				chosen[name], changed = false, true
			}
		}
		if !changed {
			break
		}
	}
	return slices.DeleteFunc(slices.Clone(s.Fields()), func(f providers.Field) bool { return !chosen[f.Name] })
}

// exampleValue is a value for a param that is wanted: its example, the first of
// its options, or what stands for one.
func exampleValue(f providers.Field) any {
	switch {
	case f.Example != nil:
		return f.Example
	case f.Default != nil:
		return f.Default
	case len(f.Options) > 0:
		return f.Options[0].Value
	default:
		return "..."
	}
}

// exampleRecord is a connector as a data file has it.
func exampleRecord(s *providers.Schema) string {
	var pairs []string
	for _, f := range exampleFields(s) {
		value := literal(exampleValue(f))
		if f.Secret {
			value = "'$ENV:" + strings.ToUpper("MY_"+string(s.Kind)+"_"+f.Name) + "'"
		}
		pairs = append(pairs, literal(f.Name)+": "+value)
	}
	config := strings.NewReplacer("&#39;", "'", "&#34;", "&quot;").Replace(escaped("{" + strings.Join(pairs, ", ") + "}"))
	return fmt.Sprintf(`  <record id="connector_my_%[1]s" model="ir.connector">
    <field name="name">My %[2]s</field>
    <field name="category">%[3]s</field>
    <field name="kind">%[1]s</field>
    <field name="organization_id" ref="res.organization.ORGANIZATION"/>
    <field name="config" eval="%[4]s"/>
  </record>
`, s.Kind, escaped(s.Label), s.Category, config)
}

func escaped(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes everything
	return b.String()
}

// literal is a value as a Python literal.
func literal(v any) string {
	switch v := v.(type) {
	case string:
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`).Replace(v) + "'"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case int64:
		return strconv.FormatInt(v, 10)
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, literal(name)+": "+literal(v[name]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		var parts []string
		for _, each := range v {
			parts = append(parts, literal(each))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return fmt.Sprint(v)
	}
}
