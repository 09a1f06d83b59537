-- What alterations make of files: what a file held when its new content was proposed, none where it was not there, and
-- what it is to hold, by their SHA-256. The names of files are what plans say too.
CREATE TABLE alteration_files (
    change_id TEXT NOT NULL REFERENCES changes (id),
    ci_id TEXT NOT NULL REFERENCES cis (id),
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    path TEXT NOT NULL,
    held TEXT,
    after TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    proposed_by TEXT NOT NULL,
    proposed_at INTEGER NOT NULL,
    PRIMARY KEY (change_id, ci_id, path)
) STRICT;

-- The contents, under the tenant's key. What was proposed stays as long as an order may carry it.
CREATE TABLE alteration_contents (
    change_id TEXT NOT NULL REFERENCES changes (id),
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    sha256 TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (change_id, tenant_id, sha256)
) STRICT;

-- Up to when the history has all files that an agent saw, as `complete_at` says it of packages.
ALTER TABLE agents ADD COLUMN files_at INTEGER NOT NULL DEFAULT 0;

-- Whether an order takes back what its plan made of files.
ALTER TABLE orders ADD COLUMN is_back INTEGER NOT NULL DEFAULT 0;
