-- Groups of configuration items: a tenant's items of a class and with certain labels, whichever
-- these are at the moment. An empty class is any.
CREATE TABLE ci_groups (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    class TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;
CREATE INDEX ci_groups_of_tenant ON ci_groups (tenant_id, id);

CREATE TABLE group_labels (
    group_id TEXT NOT NULL REFERENCES ci_groups (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (group_id, key)
) STRICT;

CREATE INDEX relations_of_tenant ON relations (tenant_id, from_ci, to_ci, kind);
