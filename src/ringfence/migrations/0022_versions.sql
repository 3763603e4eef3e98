-- Versions of documents: which one is live, and what is to take its place.
alter table documents add column version integer not null default 1;

-- One row a document: the content that is to replace the live one, until it does; what failed stays, to say why. Its
-- chunks are in `chunks`, from first_chunk on, behind all those of the live version. replacement_id: a job that was made
-- for an earlier one does nothing.
create table replacements (
    user_id        uuid not null,
    document_id    uuid not null,
    replacement_id uuid not null,
    media_type     text not null,
    size           bigint not null check (size > 0),
    sha256         bytea not null check (octet_length(sha256) = 32),
    state          text not null default 'queued' check (state in ('queued', 'processing', 'failed')),
    reason_code    text,
    reason         text,
    pages          integer,
    pages_done     integer not null default 0,
    first_chunk    integer not null default 0,
    chunks         integer not null default 0,
    ingest_token   uuid,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    primary key (user_id, document_id),
    foreign key (user_id, document_id) references documents on delete cascade
);
alter table replacements enable row level security;
alter table replacements force row level security;
create policy tenant on replacements to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on replacements to ringfence_app;
