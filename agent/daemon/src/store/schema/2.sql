-- Drift that was told and is not over, and how often it was tried to put it back.
CREATE TABLE drift (
    stack TEXT PRIMARY KEY,
    findings TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    next_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Containers that a person stopped: nobody starts them but a person or a new commit.
CREATE TABLE stopped (
    container TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
