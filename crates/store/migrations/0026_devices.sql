-- Devices that the control plane looks at from outside, over SSH: one for an item.
CREATE TABLE devices (
    ci_id TEXT PRIMARY KEY NOT NULL REFERENCES cis (id),
    tenant_id TEXT NOT NULL,
    model TEXT NOT NULL,
    address TEXT NOT NULL,
    port INTEGER NOT NULL,
    login TEXT NOT NULL,
    -- password or key; what it is, sealed for the item's id.
    method TEXT NOT NULL,
    credential BLOB NOT NULL,
    -- The one that counts; none where the next one that is shown is to be taken.
    host_key TEXT,
    -- Another one that it showed.
    offered_key TEXT,
    -- Seconds between two looks.
    every_seconds INTEGER NOT NULL,
    state TEXT NOT NULL,
    failures INTEGER NOT NULL,
    looked_at INTEGER,
    seen_at INTEGER,
    -- When it is looked at next; none where somebody has to say something first.
    due_at INTEGER,
    -- What stood in the way last.
    reason TEXT,
    version INTEGER NOT NULL
) STRICT;
CREATE INDEX devices_due ON devices (due_at) WHERE due_at IS NOT NULL;
