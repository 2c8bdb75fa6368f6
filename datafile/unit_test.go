package datafile_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

func TestUnits(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, names string
		want        [][]string
	}{
		{"none", "", nil},
		{"one of each", "a.xml b.csv c.yaml", [][]string{{"a.xml"}, {"b.csv"}, {"c.yaml"}}},
		{"CSV files at the place of the first", "a.xml b.csv c.yaml d.CSV e.xml f.csv", [][]string{{"a.xml"}, {"b.csv", "d.CSV", "f.csv"}, {"c.yaml"}, {"e.xml"}}},
		{"no CSV", "a b.xml c.yml", [][]string{{"a"}, {"b.xml"}, {"c.yml"}}},
	} {
		if got := datafile.Units(strings.Fields(row.names)); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: got %v", row.name, got)
		}
	}
}

func sources(texts ...string) []datafile.Source {
	var out []datafile.Source
	for i := 0; i < len(texts); i += 2 {
		out = append(out, datafile.Source{Name: texts[i], Content: strings.NewReader(texts[i+1])})
	}
	return out
}

func TestParseUnit(t *testing.T) {
	t.Parallel()
	f, err := datafile.ParseUnit(sources("x/ir.connector.csv", "id,name\na,A\n", "y/ir.connector.param.csv", "id,key\np,k\n"), datafile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Name != "x/ir.connector.csv, y/ir.connector.param.csv" || len(f.Records) != 2 ||
		f.NameOf(&f.Records[0]) != "x/ir.connector.csv" || f.NameOf(&f.Records[1]) != "y/ir.connector.param.csv" {
		t.Errorf("%+v", f)
	}
	// One by itself is what Parse returns.
	f, err = datafile.ParseUnit(sources("a.xml", `<ede><record id="a" model="m"/></ede>`), datafile.Limits{})
	if err != nil || f.Name != "a.xml" || f.NameOf(&f.Records[0]) != "a.xml" || !reflect.DeepEqual(f, parse(t, "a.xml", `<ede><record id="a" model="m"/></ede>`)) {
		t.Errorf("%+v %v", f, err)
	}

	_, err = datafile.ParseUnit(sources("b.csv", "id,x\na\n", "a.csv", "id,x\n,1\na,2,3\n", "c.csv", "id\na\n"), datafile.Limits{})
	want := "a.csv:2:1: a record needs an id\na.csv:3:1: this line has another number of cells than the first one\nb.csv:2:1: this line has another number of cells than the first one"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	_, err = datafile.ParseUnit(sources("a.csv", "id\na\n", "b.csv", "id\n"+strings.Repeat("b", 99)), datafile.Limits{Bytes: 50})
	if !errors.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), "b.csv") {
		t.Errorf("%v", err)
	}
}
