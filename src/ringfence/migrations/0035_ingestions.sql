-- Documents that a worker has in hand, and how far it has come; ended_at: or had, until lately. cut: chunks so far.
-- stored: of them, those embedded and stored. token: the job's, as in documents.ingest_token.
create table ingestions (
    user_id     uuid not null,
    document_id uuid not null,
    token       uuid not null,
    stage       text not null default 'parsing' check (stage in ('parsing', 'embedding', 'storing')),
    pages       integer,
    pages_done  integer not null default 0,
    cut         integer not null default 0,
    stored      integer not null default 0,
    started_at  timestamptz not null default now(),
    ended_at    timestamptz,
    primary key (user_id, document_id),
    foreign key (user_id, document_id) references documents on delete cascade
);
alter table ingestions enable row level security;
alter table ingestions force row level security;
create policy tenant on ingestions to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on ingestions to ringfence_app;
