-- What a chunk's vectors were made from, so that the same tenant's equal texts need not be embedded again: the first 16
-- bytes of the SHA-256 of the text under its context. Older chunks have none, and are not looked up.
alter table chunks add column passage_digest bytea;
