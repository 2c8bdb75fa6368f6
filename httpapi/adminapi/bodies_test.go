package adminapi

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/strictjson"
)

// What a body takes is what the document says of it, no key more and none less.
func TestBodiesAreDescribed(t *testing.T) {
	t.Parallel()
	registry := huma.NewMapRegistry(schemaPrefix, nameOf)
	registry.RegisterTypeAlias(reflect.TypeFor[secret.Value](), reflect.TypeFor[secretIn]())
	for _, body := range []any{
		&createBody{}, &EditBody{}, &replaceBody{}, &TestBody{}, &testDraftBody{}, &activateBody{}, &deactivateBody{}, &importConfigBody{}, &cloneBody{},
		&completeBody{}, &organizationBody{}, &organizationEdit{}, &tenantBody{}, &tenantEdit{},
	} {
		schema := registry.Schema(reflect.TypeOf(body).Elem(), false, "")
		described, taken := slices.Sorted(maps.Keys(schema.Properties)), strictjson.Names(body)
		if !slices.Equal(described, taken) || len(taken) == 0 {
			t.Errorf("%T takes %v, and the document describes %v", body, taken, described)
		}
	}
}
