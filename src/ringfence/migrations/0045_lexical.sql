-- The lexical index of a tenant's chunks (decision 30). What is where in a posting, lexical/postings.py says.

-- A segment is what was stored together: chunks of a document with consecutive numbers, 32 at most. document_id: no
-- foreign key, and null where the chunks are gone: what the index still holds of them is told by this row, which goes
-- last. first: the first chunk's number. width: how many. length: terms in all of its chunks. analysis: how words became terms, see
-- ANALYSES in lexical/terms.py. merged: blocks have some of its postings.
create table lexical_segments (
    user_id     uuid not null references users on delete cascade,
    segment     bigint generated always as identity check (segment < 4294967296),
    document_id uuid,
    first       integer not null check (first >= 0),
    width       integer not null check (width between 1 and 32),
    length      integer not null check (length >= 0),
    analysis    smallint not null check (analysis between 0 and 62),
    merged      boolean not null default false,
    primary key (user_id, segment)
);
create index lexical_segments_document on lexical_segments (user_id, document_id);
alter table lexical_segments enable row level security;
alter table lexical_segments force row level security;
create policy tenant on lexical_segments to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on lexical_segments to ringfence_app;

-- Postings as they are stored, until they are merged: a segment's terms lie in 1, 8 or 64 parts, by their low bits, so
-- that a search reads one part of it for a term. part: how many parts there are, plus which one it is. ends: where the
-- postings of each of the terms end.
create table lexical_fresh (
    user_id  uuid not null references users on delete cascade,
    part     integer not null check (part between 1 and 127),
    segment  bigint not null,
    terms    bigint[] not null,
    ends     integer[] not null check (cardinality(ends) = cardinality(terms)),
    postings bigint[] not null,
    primary key (user_id, part, segment)
);
alter table lexical_fresh enable row level security;
alter table lexical_fresh force row level security;
create policy tenant on lexical_fresh to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on lexical_fresh to ringfence_app;

-- Postings merged by term: up to 128 of one term in a row, which then needs no page of its own. first: a posting that
-- the row was made with.
create table lexical_blocks (
    user_id  uuid not null references users on delete cascade,
    term     bigint not null,
    first    bigint not null,
    postings bigint[] not null check (cardinality(postings) between 1 and 128),
    primary key (user_id, term, first)
);
alter table lexical_blocks enable row level security;
alter table lexical_blocks force row level security;
create policy tenant on lexical_blocks to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on lexical_blocks to ringfence_app;
