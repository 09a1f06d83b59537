-- Agents: one key on one host, which speaks for one configuration item.

CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    -- The item that is to be taken over; where none, each use takes up a new one.
    ci_id TEXT REFERENCES cis (id),
    class TEXT NOT NULL,
    labels TEXT NOT NULL,
    secret_hash BLOB NOT NULL UNIQUE,
    uses_left INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX join_tokens_of_tenant ON join_tokens (tenant_id, id);

-- The key is the identity: SHA-256 over its SubjectPublicKeyInfo. `counter` and `seen_at` lag
-- behind what is known in memory, and only ever rise.
CREATE TABLE agents (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    ci_id TEXT NOT NULL REFERENCES cis (id),
    key_hash TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    counter INTEGER NOT NULL,
    -- Which report had that number: the same may come again, because its answer was lost.
    last_report TEXT,
    joined_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- When its state or certificate was last altered, for processes that keep agents in memory.
    altered_at INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT;
CREATE INDEX agents_of_tenant ON agents (tenant_id, id);
CREATE INDEX agents_of_ci ON agents (ci_id);
CREATE INDEX agents_altered ON agents (altered_at);

-- What each item runs, as its agent last said.
CREATE TABLE ci_facts (
    ci_id TEXT PRIMARY KEY NOT NULL REFERENCES cis (id),
    tenant_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    facts TEXT NOT NULL
) STRICT;
