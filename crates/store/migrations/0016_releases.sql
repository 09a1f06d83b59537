-- A change on its way over the fleet. `layout` and `run` are the domain's, in JSON.
CREATE TABLE releases (
    id TEXT PRIMARY KEY NOT NULL,
    change_id TEXT NOT NULL REFERENCES changes (id),
    layout TEXT NOT NULL,
    run TEXT NOT NULL,
    -- `running`, `held`, `rolling_back` or `aborted`; how it ended, once it has, beside it.
    mode TEXT NOT NULL,
    ended TEXT,
    wakes_at INTEGER,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX releases_of_change ON releases (change_id, id);
CREATE INDEX releases_awake ON releases (wakes_at) WHERE wakes_at IS NOT NULL;

-- Which release carries a tenant's plan out.
CREATE TABLE release_plans (
    plan_hash TEXT PRIMARY KEY NOT NULL,
    release_id TEXT NOT NULL REFERENCES releases (id),
    tenant_id TEXT NOT NULL
) STRICT;
CREATE INDEX release_plans_of ON release_plans (release_id);

-- What an agent is to do in one stage of a plan. It is signed when an agent first fetches it: number and
-- time of an order are those of that moment.
CREATE TABLE orders (
    nonce TEXT PRIMARY KEY NOT NULL,
    release_id TEXT NOT NULL REFERENCES releases (id),
    change_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    ci_id TEXT NOT NULL,
    plan_hash TEXT NOT NULL,
    -- From 0, as the plan's bytes have them.
    stage INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    agent_id TEXT,
    envelope TEXT,
    handed_at INTEGER,
    -- `refused`, `done`, `rolled_back` or `stuck`; `conflict` where a look saw otherwise; `called_off`
    -- where nobody waits for it any more.
    outcome TEXT,
    -- Why, in words.
    reason TEXT,
    -- The agent's signed result, or the refusal.
    answer TEXT,
    answered_at INTEGER
) STRICT;
CREATE INDEX orders_open ON orders (ci_id) WHERE outcome IS NULL;
CREATE INDEX orders_of_change ON orders (tenant_id, change_id, created_at);
CREATE INDEX orders_of_ci ON orders (ci_id, created_at);
CREATE INDEX orders_of_release ON orders (release_id, ci_id, attempt);

-- Items that somebody else than their agent has to have looked at since an instant.
CREATE TABLE release_checks (
    release_id TEXT NOT NULL REFERENCES releases (id),
    ci_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    -- Whether the stage is done, or the item is `back` at what it was.
    what TEXT NOT NULL,
    stage INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (release_id, ci_id)
) STRICT;
CREATE INDEX release_checks_of_ci ON release_checks (ci_id);

-- The key with which an agent signs what came of orders; how many orders it was given; and when all that
-- it saw of its host was last known here.
ALTER TABLE agents ADD COLUMN attestor TEXT;
ALTER TABLE agents ADD COLUMN ordered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN complete_at INTEGER NOT NULL DEFAULT 0;

-- What tenants ordered about their keys, as it was signed: agents verify it anew.
CREATE TABLE key_orders (
    tenant_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    envelope TEXT NOT NULL,
    PRIMARY KEY (tenant_id, version)
) STRICT;
