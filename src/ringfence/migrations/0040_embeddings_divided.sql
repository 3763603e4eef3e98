-- Vectors in two parts: what small tenants share, and a table for each large tenant (decision 26). The table of before
-- becomes the shared part as it is; no row is moved, read or checked.

-- In the order in which writers take them, so that nobody waits in a circle: the foreign keys of before give way to
-- those of the divided table, and that locks both ends.
lock table documents, embedding_models in access exclusive mode;
alter table embeddings
    -- squawk-ignore ban-drop-constraint -- another one, as strict, takes its place
    drop constraint embeddings_pkey,
    add constraint embeddings_shared_pkey primary key using index embeddings_key;
-- squawk-ignore renaming-table -- another table has the name when this commits
alter table embeddings rename to embeddings_shared;

create table embeddings (
    user_id     uuid not null,
    document_id uuid not null,
    number      integer not null,
    model_id    smallint not null references embedding_models,
    embedding   halfvec storage plain not null,
    part        smallint not null default 0,
    primary key (user_id, document_id, number, model_id, part),
    foreign key (user_id, document_id) references documents on delete cascade
) partition by list (part);
alter table embeddings enable row level security;
alter table embeddings force row level security;
create policy tenant on embeddings to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update, delete on embeddings to ringfence_app;

-- Large tenants' tables are in here (search/tier_queries.py), each with the same fence.
create table embeddings_own partition of embeddings for values in (1) partition by list (user_id);
alter table embeddings_own enable row level security;
alter table embeddings_own force row level security;
create policy tenant on embeddings_own to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);

alter table embeddings attach partition embeddings_shared for values in (0);
-- By way of the whole table alone.
revoke all on embeddings_shared from ringfence_app;
