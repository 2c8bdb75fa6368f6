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

-- The platform's own requests, such as for a tenant that there is to be, are under
-- the empty id. This comes before what locks readers of tenants out: who claims a
-- request has these keys already when it reads the tenant.
ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_tenant_id_fkey;

-- A deleted tenant is suspended at once and goes for good at a later date. From the
-- moment at which that begins there is no way back.
ALTER TABLE tenants ADD COLUMN purge_at timestamptz, ADD COLUMN purge_begun_at timestamptz,
    ADD CONSTRAINT tenants_purged_is_suspended CHECK (purge_at IS NULL OR status = 'suspended') NOT VALID,
    ADD CONSTRAINT tenants_purge_is_due CHECK (purge_begun_at IS NULL OR purge_at IS NOT NULL) NOT VALID;
CREATE INDEX tenants_deleted ON tenants (id) WHERE purge_at IS NOT NULL;

-- Whoever changes a tenant begins with an update of its row, so none of it changes
-- while it goes, whatever build asks: what was added then would be left behind.
-- +goose StatementBegin
CREATE FUNCTION tenants_purging() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the tenant is being deleted for good'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'tenants_purging';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER tenants_purging BEFORE UPDATE ON tenants
    FOR EACH ROW WHEN (OLD.purge_begun_at IS NOT NULL) EXECUTE FUNCTION tenants_purging();

-- What is left of a tenant that is gone, beside its audit: an id that names nobody
-- else, ever. Tokens, logs, backups and the audit would confuse the two.
CREATE TABLE purged_tenants (
    tenant_id text COLLATE "C" PRIMARY KEY,
    purged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor     text NOT NULL CHECK (actor <> '')
);
ALTER TABLE purged_tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE purged_tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON purged_tenants USING (tenant_id = current_setting('app.tenant', true));
GRANT SELECT, INSERT ON purged_tenants TO patchbay_admin;
-- +goose StatementBegin
CREATE FUNCTION tenants_purged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM purged_tenants p WHERE p.tenant_id = NEW.id) THEN
        RAISE EXCEPTION 'the id was a tenant''s that is deleted for good'
            USING ERRCODE = 'unique_violation', CONSTRAINT = 'tenants_purged';
    END IF;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER tenants_purged BEFORE INSERT ON tenants FOR EACH ROW EXECUTE FUNCTION tenants_purged();

-- Records are deleted with their tenant, and never otherwise.
CREATE POLICY purging ON tenants AS RESTRICTIVE FOR DELETE TO patchbay_admin USING (purge_begun_at IS NOT NULL);
CREATE POLICY purging ON organizations AS RESTRICTIVE FOR DELETE TO patchbay_admin
    USING (EXISTS (SELECT FROM tenants t WHERE t.id = tenant_id AND t.purge_begun_at IS NOT NULL));
CREATE POLICY purging ON connectors AS RESTRICTIVE FOR DELETE TO patchbay_admin
    USING (EXISTS (SELECT FROM tenants t WHERE t.id = tenant_id AND t.purge_begun_at IS NOT NULL));
GRANT DELETE ON tenants, organizations, connectors TO patchbay_admin;

-- +goose Down
REVOKE SELECT, DELETE ON audit FROM patchbay_relay;
DROP POLICY expired_delete ON audit;
DROP POLICY expired ON audit;
DROP INDEX audit_at, audit_target;
REVOKE DELETE ON tenants, organizations, connectors FROM patchbay_admin;
DROP POLICY purging ON connectors;
DROP POLICY purging ON organizations;
DROP POLICY purging ON tenants;
DROP TRIGGER tenants_purged ON tenants;
DROP FUNCTION tenants_purged;
DROP TABLE purged_tenants;
DROP TRIGGER tenants_purging ON tenants;
DROP FUNCTION tenants_purging;
ALTER TABLE tenants DROP COLUMN purge_begun_at, DROP COLUMN purge_at;
ALTER TABLE idempotency_keys NO FORCE ROW LEVEL SECURITY;
DELETE FROM idempotency_keys WHERE tenant_id = '';
ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE idempotency_keys ADD FOREIGN KEY (tenant_id) REFERENCES tenants (id);
