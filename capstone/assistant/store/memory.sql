-- What was said, as memory: the turns of all conversations, found by meaning and by words.
ALTER TABLE messages ADD COLUMN embedding BLOB;   -- float32, little-endian, [pieces, dim]; NULL until embedded
CREATE INDEX messages_to_embed ON messages(id) WHERE embedding IS NULL AND complete AND content != '';

CREATE VIRTUAL TABLE turn_words USING fts5(words, folded, tokenize = 'porter unicode61 remove_diacritics 0');
CREATE TRIGGER turn_words_follow AFTER DELETE ON messages BEGIN DELETE FROM turn_words WHERE rowid = old.id; END;
