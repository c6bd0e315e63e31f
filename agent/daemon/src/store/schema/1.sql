CREATE TABLE accepted (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    commit_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

-- The source as last seen: the tip, when it was seen, and a refusal if trust refused it.
CREATE TABLE source (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    tip TEXT,
    contact_ms INTEGER,
    refused TEXT
) STRICT;

-- What people want to know of commits that syncs were about.
CREATE TABLE commits (
    id TEXT PRIMARY KEY,
    about TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE syncs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    commit_id TEXT,
    trigger TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    outcome TEXT,
    reason TEXT
) STRICT;

CREATE TABLE releases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stack TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('candidate', 'current', 'former', 'failed')),
    created_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_current_release ON releases (stack) WHERE state = 'current';

CREATE TABLE blobs (
    digest TEXT PRIMARY KEY,
    content BLOB NOT NULL
) STRICT;
CREATE TABLE release_blobs (
    release INTEGER NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    PRIMARY KEY (release, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE deployments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sync INTEGER NOT NULL REFERENCES syncs (id),
    stack TEXT NOT NULL,
    commit_id TEXT,
    from_commit TEXT,
    changes TEXT,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    outcome TEXT,
    reason TEXT,
    snapshot TEXT
) STRICT;
CREATE INDEX deployments_by_sync ON deployments (sync);
CREATE INDEX deployments_by_stack ON deployments (stack, id);

CREATE TABLE journal (
    deployment INTEGER NOT NULL REFERENCES deployments (id),
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (deployment, seq)
) STRICT, WITHOUT ROWID;

-- Kept out until the bytes change. A halted stack has its row here too.
CREATE TABLE quarantine (
    stack TEXT NOT NULL,
    digest TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    halted INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (stack, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sink TEXT NOT NULL,
    lane TEXT NOT NULL,
    message TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_ms INTEGER NOT NULL,
    delivered_ms INTEGER,
    given_up_ms INTEGER,
    last_error TEXT
) STRICT;
CREATE INDEX outbox_open ON outbox (sink, lane, id) WHERE delivered_ms IS NULL AND given_up_ms IS NULL;
