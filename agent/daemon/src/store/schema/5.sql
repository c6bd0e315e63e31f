-- Images that were not here before a deployment pulled or built them: only these are ever removed.
DROP TABLE pulled;
CREATE TABLE brought (
    image TEXT NOT NULL,
    reference TEXT NOT NULL,
    deployment INTEGER NOT NULL REFERENCES deployments (id),
    PRIMARY KEY (image, reference)
) STRICT, WITHOUT ROWID;
