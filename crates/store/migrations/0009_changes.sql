-- Versions of SLA policies, in TOML: the provider's default under its own tenant, and what tenants
-- negotiated. A tenant's version is in force from when both sides agreed to it.
CREATE TABLE sla_policies (
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    version TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    proposed_by TEXT NOT NULL,
    proposed_at INTEGER NOT NULL,
    agreed_by TEXT,
    since INTEGER,
    PRIMARY KEY (tenant_id, version)
) STRICT;

-- Changes, and where each came from. The stage is the domain's record in JSON.
CREATE TABLE changes (
    id TEXT PRIMARY KEY NOT NULL,
    title TEXT NOT NULL,
    -- Who found it: the provider, or the tenant whose advisory it is.
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    advisory_id TEXT,
    record TEXT NOT NULL,
    stage TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT;
CREATE INDEX changes_by_stage ON changes (stage);
-- An advisory makes one change.
CREATE UNIQUE INDEX changes_by_advisory ON changes (advisory_id) WHERE advisory_id IS NOT NULL;

-- The patches that a change installs.
CREATE TABLE change_patches (
    change_id TEXT NOT NULL REFERENCES changes (id),
    patch_id TEXT NOT NULL,
    PRIMARY KEY (change_id, patch_id)
) STRICT;
CREATE INDEX change_patches_by_patch ON change_patches (patch_id);

-- Each tenant's part of a change with its clock. `record` is the domain's, in JSON; what stands
-- beside it is copied out of it for lists and timers.
CREATE TABLE obligations (
    change_id TEXT NOT NULL REFERENCES changes (id),
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    record TEXT NOT NULL,
    phase TEXT NOT NULL,
    holder TEXT,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER,
    stage_deadline INTEGER,
    wakes_at INTEGER,
    is_settled INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (change_id, tenant_id)
) STRICT;
CREATE INDEX obligations_of_tenant ON obligations (tenant_id, change_id);
CREATE INDEX obligations_awake ON obligations (wakes_at) WHERE wakes_at IS NOT NULL;
CREATE INDEX obligations_due ON obligations (due) WHERE is_settled = 0;

-- Canonical bytes of plans, by their hash.
CREATE TABLE plans (
    hash TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    change_id TEXT NOT NULL REFERENCES changes (id),
    body BLOB NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (hash)
) STRICT;
CREATE INDEX plans_of_change ON plans (change_id, tenant_id);

-- What tenants said, as it was signed: for whoever verifies it anew.
CREATE TABLE consents (
    tenant_id TEXT NOT NULL,
    nonce TEXT NOT NULL,
    change_id TEXT NOT NULL,
    plan_hash TEXT NOT NULL,
    decision TEXT NOT NULL,
    key_id TEXT NOT NULL,
    envelope TEXT NOT NULL,
    received_by TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, nonce)
) STRICT;
CREATE INDEX consents_of_change ON consents (change_id, tenant_id);

-- A tenant's keys: the domain's record in JSON, and the public keys themselves.
CREATE TABLE key_rings (
    tenant_id TEXT PRIMARY KEY NOT NULL REFERENCES tenants (id),
    record TEXT NOT NULL,
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE consent_keys (
    tenant_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    public_key BLOB NOT NULL,
    label TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
) STRICT;

-- Rules by which tenants agreed ahead, as they were signed.
CREATE TABLE standing_rules (
    tenant_id TEXT NOT NULL,
    nonce TEXT NOT NULL,
    record TEXT NOT NULL,
    envelope TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, nonce)
) STRICT;

-- What a tenant is to be told, until it is written.
CREATE TABLE tidings (
    change_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    place INTEGER NOT NULL,
    what TEXT NOT NULL,
    plan_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (change_id, tenant_id, version, place)
) STRICT;
CREATE INDEX tidings_by_time ON tidings (created_at);

-- What was written, `patchwright.notice/1` in JSON.
CREATE TABLE notices (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    change_id TEXT NOT NULL,
    plan_hash TEXT NOT NULL,
    kind TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    document TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- When the first of the tenant's channels had it; at once where it has none.
    given_at INTEGER,
    acknowledged_by TEXT,
    acknowledged_at INTEGER
) STRICT;
CREATE INDEX notices_of_tenant ON notices (tenant_id, id);
CREATE INDEX notices_of_change ON notices (change_id, tenant_id);

-- Where a tenant is told beside the console. The secret is sealed.
CREATE TABLE channels (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    kind TEXT NOT NULL,
    address TEXT NOT NULL,
    secret BLOB,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE INDEX channels_of_tenant ON channels (tenant_id, id);

-- Each notice on each channel: tried until it is there or given up.
CREATE TABLE deliveries (
    notice_id TEXT NOT NULL REFERENCES notices (id),
    channel_id TEXT NOT NULL REFERENCES channels (id),
    tenant_id TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER,
    -- What the receiver or the network said the last time.
    answer TEXT,
    ended_at INTEGER,
    PRIMARY KEY (notice_id, channel_id)
) STRICT;
CREATE INDEX deliveries_waiting ON deliveries (next_at) WHERE next_at IS NOT NULL;
