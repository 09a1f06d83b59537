-- What items are held against beside what comes with the program. Versions are never altered: what an audit was made by
-- can be read as long as there is anything.
CREATE TABLE baselines (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    -- `rules` or `golden`.
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    withdrawn_at INTEGER,
    -- The number of the newest version.
    version INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX baselines_by_name ON baselines (tenant_id, name) WHERE withdrawn_at IS NULL;
CREATE INDEX baselines_of_tenant ON baselines (tenant_id, id);

CREATE TABLE baseline_versions (
    baseline_id TEXT NOT NULL REFERENCES baselines (id),
    number INTEGER NOT NULL,
    -- What its author calls it.
    word TEXT NOT NULL,
    -- A file of rules (TOML); of golden items the place in the history (JSON), where what they held is.
    content TEXT NOT NULL,
    put_at INTEGER NOT NULL,
    put_by TEXT NOT NULL,
    PRIMARY KEY (baseline_id, number),
    UNIQUE (baseline_id, word)
) STRICT;

-- To which items a baseline applies, or does not. Its `baseline` is an id, or the name of one that comes with the program.
CREATE TABLE baseline_bindings (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    baseline TEXT NOT NULL,
    -- Whose people bound it: `provider` or `tenant`.
    side TEXT NOT NULL,
    -- `class`, `group` or `ci`, and which.
    reach TEXT NOT NULL,
    target TEXT NOT NULL,
    holds INTEGER NOT NULL,
    bound_at INTEGER NOT NULL,
    bound_by TEXT NOT NULL,
    ended_at INTEGER,
    ended_by TEXT
) STRICT;
CREATE UNIQUE INDEX baseline_bindings_open ON baseline_bindings (tenant_id, side, baseline, target)
    WHERE ended_at IS NULL;
CREATE INDEX baseline_bindings_of_tenant ON baseline_bindings (tenant_id, id);

-- That somebody answers for a rule, of one item or a group, until a day.
CREATE TABLE rule_waivers (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    baseline TEXT NOT NULL,
    rule TEXT NOT NULL,
    side TEXT NOT NULL,
    reach TEXT NOT NULL,
    target TEXT NOT NULL,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    given_at INTEGER NOT NULL,
    given_by TEXT NOT NULL,
    until INTEGER NOT NULL,
    ended_at INTEGER,
    ended_by TEXT
) STRICT;
CREATE INDEX rule_waivers_of_tenant ON rule_waivers (tenant_id, id);
