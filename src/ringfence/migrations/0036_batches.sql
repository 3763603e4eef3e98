-- Which documents came in one request. document_ids: without a foreign key; one that is gone counts no more.
create table batches (
    user_id      uuid not null references users on delete cascade,
    batch_id     uuid not null,
    document_ids uuid[] not null,
    created_at   timestamptz not null default now(),
    primary key (user_id, batch_id)
);
alter table batches enable row level security;
alter table batches force row level security;
create policy tenant on batches to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on batches to ringfence_app;
