-- Versions of images: which bytes, where from, and whether VMs may be made from them. Each is a
-- configuration item as well. `state_at` is the one instant that a state has.
CREATE TABLE images (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    ci_id TEXT NOT NULL REFERENCES cis (id),
    parent_id TEXT,
    sha256 TEXT NOT NULL,
    format TEXT NOT NULL,
    size INTEGER NOT NULL,
    release TEXT NOT NULL,
    architecture TEXT NOT NULL,
    state TEXT NOT NULL,
    state_at INTEGER,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    UNIQUE (tenant_id, name, number)
) STRICT;
CREATE INDEX images_of_tenant ON images (tenant_id, id);
CREATE INDEX images_by_content ON images (sha256);
-- A series has one current version, whatever two people do at once.
CREATE UNIQUE INDEX images_current ON images (tenant_id, name) WHERE state = 'current';

-- DSSE envelopes, by their content.
CREATE TABLE attestations (
    image_id TEXT NOT NULL REFERENCES images (id),
    digest TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    predicate_type TEXT NOT NULL,
    envelope TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (image_id, digest)
) STRICT;

-- What the lab is asked to do.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    kind TEXT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images (id),
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    stage TEXT,
    result TEXT,
    error TEXT,
    made_id TEXT,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    holder TEXT NOT NULL,
    held_until INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_of_tenant ON jobs (tenant_id, id);
CREATE INDEX jobs_open ON jobs (created_at, id) WHERE state IN ('queued', 'running');
