-- Without it each content that goes is looked for among those of all releases.
CREATE INDEX release_blobs_by_digest ON release_blobs (digest);

-- What the agent should not take for something else when it is different one day.
CREATE TABLE memory (
    what TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
