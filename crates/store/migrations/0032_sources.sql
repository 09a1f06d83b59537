-- Where items are told what they are configured by, beside agents and devices: git repositories, documents behind
-- an address, and files in images.
CREATE TABLE sources (
    ci_id TEXT NOT NULL REFERENCES cis (id),
    name TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- Address, reference, patterns and the like, in JSON; nothing that opens it.
    settings TEXT NOT NULL,
    -- Whether the provider's people set it: they reach networks that tenants do not.
    is_providers INTEGER NOT NULL,
    -- What opens it, sealed for the item's id and the name; none where it is open to everybody.
    credential BLOB,
    -- Over SSH: the one that counts; none where the next one that is shown is to be taken.
    host_key TEXT,
    -- Another one that it showed.
    offered_key TEXT,
    -- Seconds between two looks.
    every_seconds INTEGER NOT NULL,
    state TEXT NOT NULL,
    failures INTEGER NOT NULL,
    looked_at INTEGER,
    seen_at INTEGER,
    -- When it is looked at next; none where somebody has to say something first, or nothing alters any more.
    due_at INTEGER,
    -- What stood in the way last.
    reason TEXT,
    -- Up to where it was recorded: a commit, or the tag of a version.
    progress TEXT,
    version INTEGER NOT NULL,
    PRIMARY KEY (ci_id, name)
) STRICT;
CREATE INDEX sources_due ON sources (due_at) WHERE due_at IS NOT NULL;
-- Images that are here already.
INSERT INTO sources (ci_id, name, tenant_id, kind, settings, is_providers, every_seconds, state, failures, due_at,
                     version)
SELECT i.ci_id, 'image', i.tenant_id, 'image', '{"kind":"image"}', 0, 3600, 'new', 0, i.created_at, 1
FROM images i JOIN cis c ON c.id = i.ci_id WHERE c.retired_at IS NULL;
