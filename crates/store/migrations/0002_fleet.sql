-- What systems have installed, what they lack, and since when. A check belongs to a package set:
-- systems with the same packages share it.

DROP TABLE checks;

-- By content. The body is JSON, compressed by zstd. A tenant never learns that another has the
-- same set.
CREATE TABLE package_sets (
    tenant_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    release TEXT NOT NULL,
    family TEXT NOT NULL,
    packages INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, digest)
) STRICT;

-- Which set each item had from when on, for ever.
CREATE TABLE observations (
    ci_id TEXT NOT NULL REFERENCES cis (id),
    recorded_at INTEGER NOT NULL,
    tenant_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    observed_at INTEGER NOT NULL,
    PRIMARY KEY (ci_id, recorded_at)
) STRICT;

CREATE INDEX observations_by_time ON observations (recorded_at);

-- Which set each item has now. `pending` is raised when its findings must be looked at again.
CREATE TABLE systems (
    ci_id TEXT PRIMARY KEY NOT NULL REFERENCES cis (id),
    tenant_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    observed_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    pending INTEGER NOT NULL
) STRICT;
CREATE INDEX systems_by_set ON systems (tenant_id, digest, seen_at);
CREATE INDEX systems_pending ON systems (ci_id) WHERE pending > 0;

-- The last check of each set. The report is `patchwright.check/1` in JSON, compressed by zstd.
CREATE TABLE set_checks (
    tenant_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    checked_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    critical INTEGER NOT NULL,
    high INTEGER NOT NULL,
    medium INTEGER NOT NULL,
    low INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    report BLOB NOT NULL,
    -- Raised when something new may concern the set before its next turn.
    is_due INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, digest)
) STRICT;

-- What that check calls missing.
CREATE TABLE set_patches (
    tenant_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    patch_id TEXT NOT NULL,
    release TEXT NOT NULL,
    source TEXT NOT NULL,
    candidate TEXT NOT NULL,
    priority INTEGER NOT NULL,
    security INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, digest, patch_id)
) STRICT;
CREATE INDEX set_patches_by_patch ON set_patches (patch_id);

-- A patch that an item lacks or lacked. Priorities are numbers, 0 for low to 3 for critical.
CREATE TABLE findings (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    ci_id TEXT NOT NULL REFERENCES cis (id),
    patch_id TEXT NOT NULL,
    release TEXT NOT NULL,
    source TEXT NOT NULL,
    installed TEXT NOT NULL,
    candidate TEXT NOT NULL,
    priority INTEGER NOT NULL,
    security INTEGER NOT NULL,
    state TEXT NOT NULL,
    -- The whole patch as JSON: reason, CVEs, advisories, hold.
    patch TEXT NOT NULL,
    first_seen_at INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    reopened INTEGER NOT NULL,
    accepted_reason TEXT,
    risk_owner TEXT,
    accepted_by TEXT,
    accepted_at INTEGER,
    accepted_until INTEGER,
    version INTEGER NOT NULL,
    UNIQUE (ci_id, source)
) STRICT;
CREATE INDEX findings_of_tenant ON findings (tenant_id, id);
CREATE INDEX findings_by_patch ON findings (patch_id, state);
CREATE INDEX findings_accepted ON findings (accepted_until) WHERE accepted_until IS NOT NULL;

-- Advisories that people brought: OSV records with who brought them and what became of them.
CREATE TABLE advisories (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    state TEXT NOT NULL,
    note TEXT NOT NULL,
    submitted_by TEXT NOT NULL,
    submitted_at INTEGER NOT NULL,
    decided_by TEXT,
    decided_at INTEGER,
    decision TEXT,
    version INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;
CREATE INDEX advisories_of_tenant ON advisories (tenant_id, id);

-- How many items there are is asked on each page.
CREATE INDEX cis_alive ON cis (tenant_id, class) WHERE retired_at IS NULL;
CREATE INDEX cis_retired ON cis (retired_at) WHERE retired_at IS NOT NULL;
