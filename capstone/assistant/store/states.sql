-- What a reader of the stream of turns carries, one state a user: what has become of reading every embedded turn up to `through`, in order.
-- A state can't forget one turn. So whatever takes a turn away, or brings one in before `through`, takes the state away with it, in the
-- same transaction: it is then made again from the log.
CREATE TABLE states (
    owner   TEXT PRIMARY KEY REFERENCES users(id) ON DELETE CASCADE,
    reader  TEXT NOT NULL,               -- whose it is: another reader can't use it
    through INTEGER NOT NULL,            -- the last turn that it has read
    turns   INTEGER NOT NULL,            -- how many it has read
    state   BLOB NOT NULL                -- float32, little-endian
) STRICT;

CREATE TRIGGER states_without_turn BEFORE DELETE ON messages BEGIN
    DELETE FROM states WHERE owner = (SELECT owner FROM conversations WHERE id = old.conversation);
END;
CREATE TRIGGER states_without_conversation BEFORE DELETE ON conversations BEGIN
    DELETE FROM states WHERE owner = old.owner;
END;
CREATE TRIGGER states_of_other_turns AFTER UPDATE OF embedding, content, complete ON messages BEGIN
    DELETE FROM states WHERE through >= new.id AND owner = (SELECT owner FROM conversations WHERE id = new.conversation);
END;
