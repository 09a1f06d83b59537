-- Where the machine of an item lives, as the provider says: at one of its places, under that place's name for it.
CREATE TABLE ci_machines (
    ci_id TEXT PRIMARY KEY NOT NULL REFERENCES cis (id),
    tenant_id TEXT NOT NULL,
    place TEXT NOT NULL,
    machine TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (place, machine)
) STRICT;

-- Machines' disks as they were before a step of a release. One for each item of a release; rows stay.
CREATE TABLE snapshots (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    ci_id TEXT NOT NULL,
    release_id TEXT NOT NULL REFERENCES releases (id),
    place TEXT NOT NULL,
    machine TEXT NOT NULL,
    state TEXT NOT NULL,
    -- The step that it was taken for; once the machine is to go back, what the release waits for.
    attempt INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    -- The item's agent, and a number of reports that it had reached before.
    agent_id TEXT,
    counter INTEGER,
    created_at INTEGER NOT NULL,
    taken_at INTEGER,
    returned_at INTEGER,
    removed_at INTEGER,
    -- When something is to be done next; nothing where nothing is.
    due_at INTEGER,
    -- What stood in the way last.
    reason TEXT,
    UNIQUE (release_id, ci_id)
) STRICT;
CREATE INDEX snapshots_due ON snapshots (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX snapshots_of_ci ON snapshots (ci_id, id);
CREATE INDEX snapshots_of_tenant ON snapshots (tenant_id, id);

-- How often an agent's host went back to what was kept of it, and its count of reports with it.
ALTER TABLE agents ADD COLUMN returns INTEGER NOT NULL DEFAULT 0;
