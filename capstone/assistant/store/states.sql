-- What a reader of the stream of turns carries, one state a user: what has become of reading every embedded turn up to `through`, in order.
-- A state can't forget one turn. So whatever takes a turn away that it has read, or brings one in before `through`, takes the state away
-- with it, in the same transaction: it is then made again from the log that is left.
CREATE TABLE states (
    owner   TEXT PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
    reader  TEXT NOT NULL,               -- whose it is: another reader can't use it
    through INTEGER NOT NULL,            -- the last turn that it has read
    state   BLOB NOT NULL                -- float32, little-endian
) STRICT;
CREATE INDEX messages_to_write ON messages(id) WHERE NOT complete AND content = '';

CREATE TRIGGER states_without_turn BEFORE DELETE ON messages WHEN old.embedding IS NOT NULL BEGIN
    DELETE FROM states WHERE through >= old.id AND owner = (SELECT owner FROM conversations WHERE id = old.conversation);
END;
CREATE TRIGGER states_without_conversation BEFORE DELETE ON conversations BEGIN  -- whose turns go when it is gone, and are no one's then
    DELETE FROM states WHERE owner = old.owner
        AND through >= (SELECT min(id) FROM messages WHERE conversation = old.id AND embedding IS NOT NULL);
END;
CREATE TRIGGER states_of_other_turns AFTER UPDATE OF embedding, content, complete ON messages
WHEN old.embedding IS NOT NULL OR new.embedding IS NOT NULL BEGIN
    DELETE FROM states WHERE through >= new.id AND owner = (SELECT owner FROM conversations WHERE id = new.conversation);
END;
