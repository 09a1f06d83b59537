-- Whether more than a password stood behind a session, and behind the session that made a token.
ALTER TABLE sessions ADD COLUMN is_strong INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN is_strong INTEGER NOT NULL DEFAULT 0;

-- Time-based codes (RFC 6238). The secret is sealed; each step is taken once.
CREATE TABLE totp (
    user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id),
    tenant_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    confirmed_at INTEGER,
    last_step INTEGER NOT NULL
) STRICT;

-- SHA-256 of 80 random bits each; deleted when used.
CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id),
    code_hash BLOB NOT NULL,
    PRIMARY KEY (user_id, code_hash)
) STRICT;

CREATE TABLE passkeys (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    credential BLOB NOT NULL UNIQUE,
    -- Public key and what goes with it, which never changes; counter and what may.
    static_state BLOB NOT NULL,
    dynamic_state BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;
CREATE INDEX passkeys_of_user ON passkeys (user_id, id);

-- What this side remembers between the two halves of a sign-in, once.
CREATE TABLE ceremonies (
    id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    user_id TEXT NOT NULL,
    state BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX ceremonies_expiry ON ceremonies (expires_at);
