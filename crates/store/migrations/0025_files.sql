-- Up to which manifest the configuration files of an item are recorded in its history.
CREATE TABLE ci_files (
    ci_id TEXT PRIMARY KEY NOT NULL REFERENCES cis (id),
    tenant_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    observed_at INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;

-- Who of the provider reads the files of a tenant's item, and when that was told last.
CREATE TABLE file_reads (
    reader TEXT NOT NULL,
    ci_id TEXT NOT NULL REFERENCES cis (id),
    told_at INTEGER NOT NULL,
    PRIMARY KEY (reader, ci_id)
) STRICT;
