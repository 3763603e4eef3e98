-- A tenant who has no table of its own is searched by a plan that is made once a connection (decision 26). Planning
-- took longer than searching a few vectors, and no tenant's plan differs from another's: one part, by the tenant's key.

-- The same for all documents of a tenant whose vectors are all in the shared part. They are read in one go, and what is
-- not live is left out by what the documents say: going through the documents took half as long again.
create function dense_shared(u uuid, m smallint, q halfvec, n integer)
returns table (document_id uuid, number integer, distance double precision)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set max_parallel_workers_per_gather = 0
set enable_seqscan = off
set enable_nestloop = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
    return query
    -- explained
    select e.document_id, e.number, e.embedding <=> $3::halfvec as distance
    from embeddings e join documents d on d.user_id = $1 and d.document_id = e.document_id
    where e.user_id = $1 and e.model_id = $2 and e.part = 0 and d.state = 'ready' and d.deleted_at is null
      and e.number >= d.first_chunk and e.number < d.first_chunk + d.chunks
    order by 3, 1, 2
    limit $4
    -- end
    ;
end
$$;

-- As of 0048_live_models.sql, and 'both': exact in the shared part and in a table of the tenant's own, which is being
-- filled or emptied, or whose index is not whole.
create or replace function dense_way(u uuid, m smallint, docs uuid[], few integer) returns text
language plpgsql stable set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    if exists (select from live_models l where l.user_id = u and l.model_id <> m) then
        raise exception using errcode = 'RF001', message = 'the tenant is searched with another model';
    end if;
    if to_regclass('public.embeddings_' || translate(u::text, '-', '')) is null then
        return 'small';
    end if;
    if to_regclass('public.embeddings_' || translate(u::text, '-', '') || '_m' || m) is null then
        return 'both';
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

-- As of 0041_dense.sql, and by way of dense_shared where that is all.
create or replace function dense(u uuid, m smallint, q halfvec, n integer, docs uuid[], few integer, ef integer)
returns table (document_id uuid, number integer, distance double precision)
language plpgsql stable
set plan_cache_mode = force_custom_plan
set max_parallel_workers_per_gather = 0
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
    way text := dense_way(u, m, docs, few);
begin
    if way = 'index' then
        return query select i.document_id, i.number, i.distance from dense_index(u, m, q, n, docs, ef) i;
    elsif way = 'small' and docs is null then
        return query select s.document_id, s.number, s.distance from dense_shared(u, m, q, n) s;
    else
        return query
        -- explained
        select e.document_id, e.number, e.distance
        from documents d cross join lateral (
            select x.document_id, x.number, x.embedding <=> $3::halfvec as distance from embeddings x
            where x.user_id = $1 and x.document_id = d.document_id and x.model_id = $2
              and x.number >= d.first_chunk and x.number < d.first_chunk + d.chunks
            offset 0) e
        where d.user_id = $1 and d.state = 'ready' and d.deleted_at is null
          and ($5::uuid[] is null or d.document_id = any($5))
        order by 3, 1, 2
        limit $4
        -- end
        ;
    end if;
end
$$;

-- A whole search by meaning alone, in one call outside of any transaction: the tenant, whose name ends with the
-- statement; the nearest chunks; their texts, by their keys.
-- squawk-ignore ban-drop-function -- nobody has called it since 0047_search.sql
drop function search_dense;
create function search_dense(u uuid, m smallint, q halfvec, n integer, docs uuid[], few integer, ef integer)
returns table (
    document_id uuid, number integer, name text, text text, spans integer[], context text, cosine double precision,
    bm25 double precision, score double precision)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
begin
    perform set_config('app.user_id', u::text, true);
    return query
    select f.document_id, f.number, d.name, c.text, c.spans, c.context, 1 - f.distance, 0::float8, 1 - f.distance
    from dense(u, m, q, n, docs, few, ef) f
    cross join lateral (
        select x.name from documents x where x.user_id = u and x.document_id = f.document_id offset 0) d
    cross join lateral (
        select x.text, x.spans, x.context from chunks x
        where x.user_id = u and x.document_id = f.document_id and x.number = f.number
        offset 0) c
    order by f.distance, f.document_id, f.number;
end
$$;

revoke all on function dense_shared, search_dense from public;
grant execute on function dense_shared, search_dense to ringfence_app;
