-- Who people are elsewhere: at the issuer of an OpenID Connect provider, by the subject there. Only the
-- two together name somebody; mail addresses and user names are given to others in time.
CREATE TABLE external_identities (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- Raised where the account came from there: then it has its role from there, and no other way in.
    is_managed INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER,
    UNIQUE (issuer, subject)
) STRICT;
CREATE INDEX external_identities_of_user ON external_identities (user_id, id);
