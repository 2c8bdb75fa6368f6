-- +goose Up

-- Locks come in the order that meets nobody in a circle: a change begins by writing
-- to tenants and leaves its audit later, an entry alone takes the audit and then
-- reads tenants. So changes are waited for first, then entries, then readers.
LOCK TABLE tenants IN SHARE MODE;

-- The audit is looked through by target, and what is old is removed by its time.
-- Whoever writes an entry waits while these are built, about a second per million.
CREATE INDEX audit_target ON audit (tenant_id, target, id);
CREATE INDEX audit_at ON audit (at);

-- Housekeeping may remove what is old, and nothing that is younger than this: audit
-- only grows for everybody else.
CREATE POLICY expired ON audit FOR SELECT TO patchbay_relay USING (at < now() - interval '30 days');
CREATE POLICY expired_delete ON audit FOR DELETE TO patchbay_relay USING (at < now() - interval '30 days');
GRANT SELECT, DELETE ON audit TO patchbay_relay;

-- A deleted tenant is suspended at once and goes for good at a later date.
ALTER TABLE tenants ADD COLUMN purge_at timestamptz,
    ADD CONSTRAINT tenants_purged_is_suspended CHECK (purge_at IS NULL OR status = 'suspended') NOT VALID;

-- +goose Down
REVOKE SELECT, DELETE ON audit FROM patchbay_relay;
DROP POLICY expired_delete ON audit;
DROP POLICY expired ON audit;
DROP INDEX audit_at, audit_target;
ALTER TABLE tenants DROP COLUMN purge_at;
