-- Digests that people see are made with this key: they are over secrets too, and without it whoever sees one could try
-- guesses against it.
INSERT INTO memory VALUES ('digest.key', lower(hex(randomblob(32))));
