-- The only truth on disk. Owners are users; rows of one owner are never read for another.
CREATE TABLE users (
    id      TEXT PRIMARY KEY,
    created REAL NOT NULL
) STRICT;

CREATE TABLE keys (
    id      INTEGER PRIMARY KEY,
    owner   TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    label   TEXT NOT NULL,
    shown   TEXT NOT NULL,               -- its first characters, to tell keys apart
    hash    TEXT NOT NULL UNIQUE,        -- SHA-256 of the key, which is random: nothing to guess
    created REAL NOT NULL,
    revoked REAL
) STRICT;

CREATE TABLE documents (
    id         TEXT PRIMARY KEY,
    owner      TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('received', 'searchable', 'ready', 'failed')),
    error      TEXT NOT NULL DEFAULT '',  -- for people
    error_code TEXT NOT NULL DEFAULT '',  -- for programs
    title      TEXT NOT NULL DEFAULT '',
    warnings   TEXT NOT NULL DEFAULT '[]',
    pages      INTEGER NOT NULL DEFAULT 0,
    chunks     INTEGER NOT NULL DEFAULT 0,
    created    REAL NOT NULL,
    updated    REAL NOT NULL
) STRICT;
CREATE INDEX documents_by_owner ON documents(owner, name);

CREATE TABLE pages (
    document TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    ordinal  INTEGER NOT NULL,           -- 0, 1, … in reading order
    number   INTEGER,                    -- the page as a viewer counts, from 1; NULL where the format has none
    heading  TEXT NOT NULL,              -- JSON list, outermost first
    text     TEXT NOT NULL,
    hidden   TEXT NOT NULL,              -- JSON list of [start, end]
    PRIMARY KEY (document, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE chunks (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used again, so that an index can't answer for a deleted one
    document  TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    owner     TEXT NOT NULL,
    page      INTEGER NOT NULL,          -- pages.ordinal
    start     INTEGER NOT NULL,
    end       INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    context   TEXT NOT NULL,
    embedding BLOB                       -- float32, little-endian; NULL until embedded
) STRICT;
CREATE INDEX chunks_by_document ON chunks(document);
CREATE INDEX chunks_by_owner ON chunks(owner);
CREATE INDEX chunks_to_embed ON chunks(document, id) WHERE embedding IS NULL;

CREATE TABLE jobs (
    id       INTEGER PRIMARY KEY,
    document TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
    step     TEXT NOT NULL CHECK (step IN ('parse', 'embed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    created  REAL NOT NULL
) STRICT;

CREATE TABLE conversations (
    id      TEXT PRIMARY KEY,
    owner   TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    title   TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL
) STRICT;
CREATE INDEX conversations_by_owner ON conversations(owner, updated);

CREATE TABLE messages (
    id           INTEGER PRIMARY KEY,
    conversation TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
    role         TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
    content      TEXT NOT NULL,
    citations    TEXT NOT NULL DEFAULT '[]',
    complete     INTEGER NOT NULL,       -- 0: the answer was cut off (stopped, or the service ended)
    created      REAL NOT NULL
) STRICT;
CREATE INDEX messages_by_conversation ON messages(conversation, id);
