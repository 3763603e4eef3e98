-- With which model each tenant is searched, and which one is being filled in to take its place (decision 23).

-- No row: the model of the tenant's vectors, if it has any. No foreign keys to embedding_models: nothing goes there.
create table live_models (
    user_id       uuid primary key references users on delete cascade,
    model_id      smallint not null,
    next_model_id smallint check (next_model_id <> model_id)
);
alter table live_models enable row level security;
alter table live_models force row level security;
create policy tenant on live_models to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update on live_models to ringfence_app;

-- As of 0041_dense.sql, but that a tenant is searched with its live model or not at all: RF001 says that it is another
-- one, and the query has to be embedded anew. Of the model that it was until a moment ago, all vectors are there still.
create or replace function dense_way(u uuid, m smallint, docs uuid[], few integer) returns text
language plpgsql stable set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
begin
    if exists (select from live_models l where l.user_id = u and l.model_id <> m) then
        raise exception using errcode = 'RF001', message = 'the tenant is searched with another model';
    end if;
    if to_regclass('public.embeddings_' || translate(u::text, '-', '') || '_m' || m) is null then
        return 'small';
    end if;
    if docs is not null and (
        select coalesce(sum(d.chunks), 0) <= few from documents d
        where d.user_id = u and d.document_id = any(docs) and d.state = 'ready' and d.deleted_at is null)
    then
        return 'few';
    end if;
    return 'index';
end
$$;
