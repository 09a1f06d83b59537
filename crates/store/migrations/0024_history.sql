-- What the files of configuration items held, and hold. `tenant` and `ci` are the 128 bits of their ids. What was
-- recorded lately is in rows (the tail), each sealed with its partition's key; what is older is in objects.
CREATE TABLE history_tenants (
    tenant_id TEXT PRIMARY KEY NOT NULL REFERENCES tenants (id),
    tenant BLOB NOT NULL UNIQUE,
    -- Under the master key; none after all of it was erased.
    sealed_key BLOB,
    -- Instants at which something was recorded rise.
    last_recorded INTEGER NOT NULL,
    -- Into which partition it is recorded; 0 where none is open.
    open_number INTEGER NOT NULL,
    last_number INTEGER NOT NULL,
    -- What was in force before is not told.
    kept_from INTEGER NOT NULL,
    -- Rises whenever objects come or go: whoever worked meanwhile begins again.
    epoch INTEGER NOT NULL
) STRICT;

-- State: open, closed (to be sealed), sealed, erased (without its key), dropped (without its object).
CREATE TABLE history_partitions (
    tenant BLOB NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    -- Under the tenant's key.
    sealed_key BLOB,
    object TEXT,
    -- BLAKE3 of the object.
    digest BLOB,
    size INTEGER NOT NULL,
    versions INTEGER NOT NULL,
    first_recorded INTEGER NOT NULL,
    last_recorded INTEGER NOT NULL,
    -- Up to when retention was applied.
    thinned_to INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, number)
) STRICT;
CREATE INDEX history_partitions_open ON history_partitions (opened_at) WHERE state IN ('open', 'closed');

-- Without which other partitions one cannot be read whole.
CREATE TABLE history_leans (
    tenant BLOB NOT NULL,
    number INTEGER NOT NULL,
    leans_on INTEGER NOT NULL,
    PRIMARY KEY (tenant, number, leans_on)
) STRICT;

-- Named before they are written, so that garbage can be told: writing, live, doomed.
CREATE TABLE history_objects (
    name TEXT PRIMARY KEY NOT NULL,
    tenant BLOB NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;

-- Each file that there is or was: keyed hash of its path, the path sealed, keyed hash of what it is now, in which
-- partitions it altered since when, and which frame its next content may lean on.
CREATE TABLE history_files (
    tenant BLOB NOT NULL,
    ci BLOB NOT NULL,
    path_key BLOB NOT NULL,
    path BLOB NOT NULL,
    state BLOB,
    recorded INTEGER NOT NULL,
    number INTEGER NOT NULL,
    spans BLOB NOT NULL,
    anchor_number INTEGER,
    anchor_frame INTEGER,
    PRIMARY KEY (tenant, ci, path_key)
) STRICT, WITHOUT ROWID;

-- The tail: versions, contents (each once), and commitments of batches.
CREATE TABLE history_tail (
    tenant BLOB NOT NULL,
    ci BLOB NOT NULL,
    path_key BLOB NOT NULL,
    recorded INTEGER NOT NULL,
    number INTEGER NOT NULL,
    content BLOB,
    version BLOB NOT NULL,
    PRIMARY KEY (tenant, ci, path_key, recorded)
) STRICT, WITHOUT ROWID;

CREATE TABLE history_contents (
    tenant BLOB NOT NULL,
    number INTEGER NOT NULL,
    content BLOB NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (tenant, number, content)
) STRICT;

CREATE TABLE history_batches (
    tenant BLOB NOT NULL,
    number INTEGER NOT NULL,
    ci BLOB NOT NULL,
    recorded INTEGER NOT NULL,
    versions INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (tenant, number, ci, recorded)
) STRICT, WITHOUT ROWID;
