package datafile

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// WriteXML writes f as XML. Parsing the result gives the same records;
// consecutive records of one noupdate share a <data> element.
func WriteXML(w io.Writer, f *File) error {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<patchbay>\n")
	for i, r := range f.Records {
		if i == 0 || f.Records[i-1].NoUpdate != r.NoUpdate {
			if i > 0 {
				b.WriteString("  </data>\n")
			}
			fmt.Fprintf(&b, "  <data noupdate=\"%d\">\n", map[bool]int{true: 1}[r.NoUpdate])
		}
		b.WriteString("    <record id=\"")
		xmlText(&b, r.ID)
		b.WriteString("\" model=\"")
		xmlText(&b, r.Model)
		b.WriteString("\">\n")
		for _, f := range r.Fields {
			b.WriteString("      <field name=\"")
			xmlText(&b, f.Name)
			if err := xmlValue(&b, f.Value); err != nil {
				return err
			}
		}
		b.WriteString("    </record>\n")
	}
	if len(f.Records) > 0 {
		b.WriteString("  </data>\n")
	}
	b.WriteString("</patchbay>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func xmlValue(b *strings.Builder, v Value) error {
	switch {
	case v.Form == Ref:
		b.WriteString("\" ref=\"")
		xmlText(b, v.Text)
		b.WriteString("\"/>\n")
	case v.Form == Text && plainInXML(v.Text):
		b.WriteString("\">")
		xmlText(b, v.Text)
		b.WriteString("</field>\n")
	default:
		value := v.Literal
		if v.Form == Text {
			value = v.Text
		}
		var lit strings.Builder
		if err := pythonLiteral(&lit, value); err != nil {
			return err
		}
		b.WriteString("\" eval=\"")
		xmlText(b, lit.String())
		b.WriteString("\"/>\n")
	}
	return nil
}

// plainInXML tells whether s survives as element text: the reader trims it, XML
// forbids control characters, and line ends are normalised.
func plainInXML(s string) bool {
	if s != strings.TrimSpace(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 && r != '\n' && r != '\t' || r == 0xfffe || r == 0xffff || r == 0x7f {
			return false
		}
	}
	return true
}

func xmlText(b *strings.Builder, s string) { _ = xml.EscapeText(b, []byte(s)) }

// pythonLiteral writes a value so that parseLiteral reads the same.
func pythonLiteral(b *strings.Builder, v any) error {
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		s, err := floatText(v)
		if err != nil {
			return err
		}
		b.WriteString(s)
	case string:
		quoteLiteral(b, v)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := pythonLiteral(b, e); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		for i, k := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteString(", ")
			}
			quoteLiteral(b, k)
			b.WriteString(": ")
			if err := pythonLiteral(b, v[k]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	default:
		return fmt.Errorf("write data file: a value of type %T has no literal", v)
	}
	return nil
}

// floatText keeps a float a float: 1.0, not 1.
func floatText(v float64) (string, error) {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return "", fmt.Errorf("write data file: infinity and NaN have no literal")
	}
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	} else if mantissa, exponent, ok := strings.Cut(s, "e"); ok && !strings.Contains(mantissa, ".") {
		// YAML 1.2 reads 1e+06 as text in some parsers, 1.0e+06 in none.
		s = mantissa + ".0e" + exponent
	}
	return s, nil
}

// WriteYAML writes f as YAML. Parsing the result gives the same records.
func WriteYAML(w io.Writer, f *File) error {
	var b strings.Builder
	all := len(f.Records) > 0 && !slices.ContainsFunc(f.Records, func(r Record) bool { return !r.NoUpdate })
	fmt.Fprintf(&b, "noupdate: %t\nrecords:", all)
	if len(f.Records) == 0 {
		b.WriteString(" []")
	}
	b.WriteByte('\n')
	for _, r := range f.Records {
		fmt.Fprintf(&b, "  - id: %s\n    model: %s\n", yamlText(r.ID), yamlText(r.Model))
		if r.NoUpdate && !all {
			b.WriteString("    noupdate: true\n")
		}
		b.WriteString("    fields:")
		if len(r.Fields) == 0 {
			b.WriteString(" {}")
		}
		b.WriteByte('\n')
		for _, f := range r.Fields {
			fmt.Fprintf(&b, "      %s:", yamlText(f.Name))
			var err error
			switch f.Form {
			case Ref:
				fmt.Fprintf(&b, " {ref: %s}\n", yamlText(f.Text))
			case Text:
				fmt.Fprintf(&b, " %s\n", yamlText(f.Text))
			default:
				v := f.Literal
				if m, ok := v.(map[string]any); ok && len(m) == 1 && f.Name != "config" {
					if _, ok := m["ref"]; ok {
						v = map[string]any{"ref": m}
					}
				}
				err = yamlBlock(&b, v, "        ")
			}
			if err != nil {
				return err
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// yamlBlock writes a value behind "key:"; maps and lists on lines of their own.
func yamlBlock(b *strings.Builder, v any, indent string) error {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return nil
		}
		b.WriteByte('\n')
		for _, k := range slices.Sorted(maps.Keys(v)) {
			fmt.Fprintf(b, "%s%s:", indent, yamlText(k))
			if err := yamlBlock(b, v[k], indent+"  "); err != nil {
				return err
			}
		}
	case []any:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return nil
		}
		b.WriteByte('\n')
		for _, e := range v {
			fmt.Fprintf(b, "%s-", indent)
			if err := yamlBlock(b, e, indent+"  "); err != nil {
				return err
			}
		}
	case string:
		fmt.Fprintf(b, " %s\n", yamlText(v))
	case nil:
		b.WriteString(" null\n")
	case bool:
		fmt.Fprintf(b, " %t\n", v)
	case int64:
		fmt.Fprintf(b, " %d\n", v)
	case float64:
		s, err := floatText(v)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, " %s\n", s)
	default:
		return fmt.Errorf("write data file: a value of type %T has no YAML", v)
	}
	return nil
}

// yamlText writes a string plain where no parser could read anything else into
// it, else in double quotes, which are JSON's.
func yamlText(s string) string {
	plain := len(s) > 0 && len(s) <= 80
	for i := 0; plain && i < len(s); i++ {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		plain = letter || i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' || c == ' ' && i < len(s)-1)
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan":
		plain = false
	}
	if plain {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case !strconv.IsPrint(r) && r <= 0xffff:
			b.WriteString(`\u` + hexDigits(r, 4))
		case !strconv.IsPrint(r):
			b.WriteString(`\U` + hexDigits(r, 8))
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
