-- +goose Up

-- A deleted tenant is suspended at once and goes for good at a later date.
ALTER TABLE tenants ADD COLUMN purge_at INTEGER CHECK (purge_at IS NULL OR status = 'suspended');

CREATE INDEX audit_target ON audit (tenant_id, target, id);
CREATE INDEX audit_at ON audit (at);
