package sealed

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// names lists a folder; an absent one is empty.
func (s *Store) names(ctx context.Context, place string) ([]string, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.file(place))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, ioFault("list a folder", err)
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out, nil
}

// Tenants implements vault.Store. Names that no parser accepts are not ours.
func (s *Store) Tenants(ctx context.Context) ([]tenant.ID, error) {
	names, err := s.names(ctx, base)
	var out []tenant.ID
	for _, n := range names {
		if id, err := tenant.ParseID(n); err == nil {
			out = append(out, id)
		}
	}
	return out, err
}

// Connectors implements vault.Store.
func (s *Store) Connectors(ctx context.Context, t tenant.ID) ([]connector.ID, error) {
	place, err := vault.TenantPath(base, t)
	if err != nil {
		return nil, err
	}
	names, err := s.names(ctx, place)
	var out []connector.ID
	for _, n := range names {
		if id, err := connector.ParseID(n); err == nil && id.String() == n { // else its path is another one
			out = append(out, id)
		}
	}
	return out, err
}

// Refs implements vault.Store. Times come from the record's header as it
// stands: a damaged record is still listed, so that the sweeper can remove it.
func (s *Store) Refs(ctx context.Context, t tenant.ID, id connector.ID) ([]vault.Stored, error) {
	place, err := vault.ConnectorPath(base, t, id)
	if err != nil {
		return nil, err
	}
	names, err := s.names(ctx, place)
	if err != nil {
		return nil, err
	}
	var out []vault.Stored
	for _, n := range names {
		pin, err := connector.ParsePin(n)
		if err != nil {
			continue
		}
		raw, err := os.ReadFile(s.file(place + "/" + n))
		if errors.Is(err, fs.ErrNotExist) {
			continue // destroyed since it was listed
		}
		if err != nil {
			return nil, ioFault("read a secret", err)
		}
		h, err := parseHeader(raw)
		if err != nil {
			info, statErr := os.Stat(s.file(place + "/" + n))
			if statErr != nil {
				continue
			}
			h.writtenAt = info.ModTime().UnixNano()
		}
		out = append(out, vault.Stored{
			Ref:       connector.SecretRef{Tenant: t, Connector: id, Pin: pin},
			WrittenAt: stamp(h.writtenAt), DeletedAt: stamp(h.deletedAt),
		})
	}
	return out, nil
}
