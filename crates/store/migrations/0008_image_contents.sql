-- Which tenant has which bytes, and what is in them. To know a hash is not to have the bytes: a
-- version is made only of what its tenant brought, or the lab made for it.
CREATE TABLE image_contents (
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    sha256 TEXT NOT NULL,
    format TEXT NOT NULL,
    size INTEGER NOT NULL,
    release TEXT NOT NULL,
    architecture TEXT NOT NULL,
    -- Its packages, in package_sets.
    package_set TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, sha256)
) STRICT;
CREATE INDEX image_contents_by_hash ON image_contents (sha256);
