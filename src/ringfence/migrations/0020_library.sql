-- What a tenant's library is ordered by, and which of a document's chunks are live.

-- first_chunk: searches see the chunks first_chunk to first_chunk + chunks - 1 of a document that is ready and not
-- deleted. A new version is written behind the live one, and goes live by one update of this row.
-- collections: ids, without a foreign key: one that is gone is asked for by nobody, and its id is in nobody's answers.
-- tags are folded and sorted; metadata is an object. language: ISO 639-1, as found in the text. deleted_at: until it is
-- purged, a deleted document can be restored.
alter table documents
    add column first_chunk integer not null default 0,
    add column collections uuid[] not null default '{}',
    add column tags text[] not null default '{}',
    add column metadata jsonb not null default '{}',
    add column language text,
    add column deleted_at timestamptz;
