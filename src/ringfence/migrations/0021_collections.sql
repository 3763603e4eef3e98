-- Collections: named sets of a tenant's documents. Which documents are in one, `documents.collections` says.
create table collections (
    user_id       uuid not null references users on delete cascade,
    collection_id uuid not null,
    name          text not null check (length(name) between 1 and 100),
    created_at    timestamptz not null default now(),
    primary key (user_id, collection_id),
    constraint collections_name unique (user_id, name)
);
alter table collections enable row level security;
alter table collections force row level security;
create policy tenant on collections to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on collections to ringfence_app;
