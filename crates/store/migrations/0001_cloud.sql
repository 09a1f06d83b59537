-- Written in SQLite's words; `dialect` turns them into PostgreSQL's. Times are microseconds since
-- 1970-01-01T00:00:00Z. Every row names its tenant; the provider's own rows name PROVIDER.

CREATE TABLE tenants (
    id TEXT PRIMARY KEY NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    model TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    login TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    -- argon2id, in PHC's string form; none where the person signs in elsewhere.
    password TEXT,
    disabled_at INTEGER,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT;
CREATE INDEX users_of_tenant ON users (tenant_id, id);

-- Secrets of sessions and tokens are 32 random bytes; only their SHA-256 is kept.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    secret_hash BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_of_user ON sessions (user_id);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    user_id TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    access TEXT NOT NULL,
    secret_hash BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX tokens_of_tenant ON tokens (tenant_id, id);

CREATE TABLE cis (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    class TEXT NOT NULL,
    name TEXT NOT NULL,
    -- What both sides agreed instead of the duty that follows from class and service model.
    agreed_duty TEXT,
    agreed_reason TEXT,
    created_at INTEGER NOT NULL,
    retired_at INTEGER,
    version INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;
CREATE INDEX cis_of_tenant ON cis (tenant_id, id);
CREATE INDEX cis_of_class ON cis (class, id);

CREATE TABLE ci_labels (
    tenant_id TEXT NOT NULL,
    ci_id TEXT NOT NULL REFERENCES cis (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (ci_id, key)
) STRICT;
CREATE INDEX ci_labels_by_value ON ci_labels (tenant_id, key, value);

CREATE TABLE relations (
    tenant_id TEXT NOT NULL,
    from_ci TEXT NOT NULL REFERENCES cis (id),
    kind TEXT NOT NULL,
    to_ci TEXT NOT NULL REFERENCES cis (id),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (from_ci, kind, to_ci)
) STRICT;
CREATE INDEX relations_to ON relations (to_ci);

-- The last check of each configuration item. The report is `patchwright.check/1` in JSON.
CREATE TABLE checks (
    ci_id TEXT PRIMARY KEY NOT NULL REFERENCES cis (id),
    tenant_id TEXT NOT NULL,
    checked_at INTEGER NOT NULL,
    status TEXT NOT NULL,
    critical INTEGER NOT NULL,
    high INTEGER NOT NULL,
    medium INTEGER NOT NULL,
    low INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    report BLOB NOT NULL
) STRICT;
CREATE INDEX checks_of_tenant ON checks (tenant_id, ci_id);

-- Every change of state, in the transaction that made it. `sequence` is its place in the ledger,
-- given by the sequencer; the payload is committed to there by H(salt, payload).
CREATE TABLE events (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- Which process's clock told the time.
    clock TEXT NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    object TEXT NOT NULL,
    object_version INTEGER NOT NULL,
    payload BLOB NOT NULL,
    salt BLOB NOT NULL,
    sequence INTEGER UNIQUE
) STRICT;
CREATE INDEX events_waiting ON events (id) WHERE sequence IS NULL;
CREATE INDEX events_of_tenant ON events (tenant_id, sequence);
CREATE INDEX events_of_object ON events (object, id);

-- One row: how many events have a place.
CREATE TABLE ledger (
    one INTEGER PRIMARY KEY NOT NULL CHECK (one = 1),
    sequenced INTEGER NOT NULL
) STRICT;
INSERT INTO ledger (one, sequenced) VALUES (1, 0);

-- Answers already given, so that a request sent again has no second effect.
CREATE TABLE answers (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    answer TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT;
CREATE INDEX answers_expiry ON answers (expires_at);

-- Who does a piece of background work, and until when. `term` rises with each new holder.
CREATE TABLE leases (
    work TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    term INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;

-- Keys of the installation, sealed under the master key.
CREATE TABLE sealed_keys (
    name TEXT PRIMARY KEY NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
