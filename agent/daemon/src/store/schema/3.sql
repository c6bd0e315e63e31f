-- What people told the agent. `sync` is the one that it began.
CREATE TABLE interventions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    told TEXT NOT NULL,
    stack TEXT,
    uid INTEGER NOT NULL,
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT,
    sync INTEGER
) STRICT;
CREATE INDEX interventions_by_sync ON interventions (sync) WHERE sync IS NOT NULL;

-- Left alone for a while; the empty name stands for all stacks.
CREATE TABLE suspensions (
    stack TEXT PRIMARY KEY,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    for_ms INTEGER NOT NULL,
    stated TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The one plan that removes more stacks than may go at once.
CREATE TABLE guarded (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    plan TEXT NOT NULL,
    removes TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    confirmed TEXT
) STRICT;

-- Images that were not here before we pulled them: only these are ever removed.
CREATE TABLE pulled (
    image TEXT NOT NULL,
    reference TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (image, reference)
) STRICT, WITHOUT ROWID;

ALTER TABLE releases ADD COLUMN committed_ms INTEGER;
ALTER TABLE releases ADD COLUMN evidence TEXT;

-- Kept out until the bytes change. `failed`: it did not pass. `halted`: neither did the way back. `held`: a person chose
-- another release; then `tip` is what the repository wanted at that moment. `accepted`: it was halted, and a person took
-- what runs as good. `lifted`: a person wants one more try.
CREATE TABLE kept_out (
    stack TEXT NOT NULL,
    digest TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('failed', 'halted', 'held', 'accepted')),
    lifted INTEGER NOT NULL DEFAULT 0,
    tip TEXT,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (stack, digest)
) STRICT, WITHOUT ROWID;
INSERT INTO kept_out (stack, digest, commit_id, kind, reason, at_ms)
    SELECT stack, digest, commit_id, iif(halted, 'halted', 'failed'), reason, at_ms FROM quarantine;
DROP TABLE quarantine;
