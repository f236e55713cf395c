-- What the reader keeps of a chunk's tokens, apart from the chunks, which are read far more often.
CREATE TABLE readings (
    chunk  INTEGER PRIMARY KEY REFERENCES chunks(id) ON DELETE CASCADE,
    tokens BLOB NOT NULL                 -- int8, a row a token
) STRICT;

-- Which reader a chunk's reading is for; empty until there is one.
ALTER TABLE chunks ADD COLUMN reader TEXT NOT NULL DEFAULT '';
DROP INDEX chunks_to_embed;
CREATE INDEX chunks_to_embed ON chunks(document, id) WHERE reader = '';
