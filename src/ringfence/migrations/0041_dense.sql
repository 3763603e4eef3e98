-- Search by meaning (decision 26). All run as their caller, under the policies. Each takes the tenant first, and says it
-- in each of its statements, because a policy alone does not prune partitions.
--
-- u: tenant; m: model; q: vector; n: how many; docs: in these documents, or (null) in all; few: chunks up to which a
-- narrowed search is exact; ef: of the index, how many candidates it keeps.
--
-- Plans are made for each call (a general one loses the index and the partition), by the tenant's own keys (other scans
-- read the neighbours' rows).

-- Which way a search goes: 'small', exact, because the tenant has no index of its own; 'few', exact, because few chunks
-- are meant; 'index'. An index has its name when it is whole.
create function dense_way(u uuid, m smallint, docs uuid[], few integer) returns text
language plpgsql set plan_cache_mode = force_custom_plan set enable_seqscan = off
as $$
begin
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

-- The live chunks that are nearest, by distance; ties have a fixed order. Where it is exact, document by document: an
-- exact search reads through the primary key what is live, and nothing else.
create function dense(u uuid, m smallint, q halfvec, n integer, docs uuid[], few integer, ef integer)
returns table (document_id uuid, number integer, distance double precision)
language plpgsql
set plan_cache_mode = force_custom_plan
set max_parallel_workers_per_gather = 0
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
    if dense_way(u, m, docs, few) = 'index' then
        return query select i.document_id, i.number, i.distance from dense_index(u, m, q, n, docs, ef) i;
        return;
    end if;
    return query
    -- explained
    select e.document_id, e.number, e.distance
    from documents d cross join lateral (
        select x.document_id, x.number, x.embedding <=> $3::halfvec as distance from embeddings x
        where x.user_id = $1 and x.document_id = d.document_id and x.model_id = $2
          and x.number >= d.first_chunk and x.number < d.first_chunk + d.chunks
        offset 0) e
    where d.user_id = $1 and d.state = 'ready' and d.deleted_at is null and ($5::uuid[] is null or d.document_id = any($5))
    order by 3, 1, 2
    limit $4
    -- end
    ;
end
$$;

-- The same by the tenant's own index, and exactly what is not in it yet. The index gives more as long as what it gave is
-- not live or not meant.
create function dense_index(u uuid, m smallint, q halfvec, n integer, docs uuid[], ef integer)
returns table (document_id uuid, number integer, distance double precision)
language plpgsql
set max_parallel_workers_per_gather = 0
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
begin
    perform set_config('hnsw.iterative_scan', 'relaxed_order', true),
        set_config('hnsw.ef_search', least(1000, greatest(ef, 2 * n))::text, true);
    return query execute format($sql$
    -- explained
    with own as materialized (
        select e.document_id, e.number, e.embedding::halfvec(%1$s) <=> $3::halfvec(%1$s) as distance
        from embeddings e
        where e.user_id = $1 and e.part = 1 and e.model_id = $2 and (
            select d.state = 'ready' and d.deleted_at is null and ($5::uuid[] is null or d.document_id = any($5))
              and e.number >= d.first_chunk and e.number < d.first_chunk + d.chunks
            from documents d where d.user_id = $1 and d.document_id = e.document_id)
        order by e.embedding::halfvec(%1$s) <=> $3::halfvec(%1$s)
        limit $4),
    fresh as (
        select e.document_id, e.number, e.embedding <=> $3::halfvec as distance
        from embeddings e join documents d on d.user_id = $1 and d.document_id = e.document_id
        where e.user_id = $1 and e.part = 0 and e.model_id = $2
          and d.state = 'ready' and d.deleted_at is null and ($5::uuid[] is null or d.document_id = any($5))
          and e.number >= d.first_chunk and e.number < d.first_chunk + d.chunks)
    select f.document_id, f.number, f.distance
    from (select o.document_id, o.number, o.distance from own o
        union all select s.document_id, s.number, s.distance from fresh s) f
    order by 3, 1, 2
    limit $4
    -- end
    $sql$, vector_dims(q)) using u, m, q, n, docs;
end
$$;

-- A whole search in one call outside of any transaction: the tenant, whose name ends with the statement; the nearest
-- chunks; their texts.
create function search_dense(u uuid, m smallint, q halfvec, n integer, docs uuid[], few integer, ef integer)
returns table (
    document_id uuid, name text, text text, spans integer[], context text, score double precision)
language plpgsql
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
begin
    perform set_config('app.user_id', u::text, true);
    return query
    select f.document_id, d.name, c.text, c.spans, c.context, 1 - f.distance
    from dense(u, m, q, n, docs, few, ef) f
    join documents d on d.user_id = u and d.document_id = f.document_id
    join chunks c on c.user_id = u and c.document_id = f.document_id and c.number = f.number
    order by f.distance, f.document_id, f.number;
end
$$;

revoke all on function dense_way, dense, dense_index, search_dense from public;
grant execute on function dense_way, dense, dense_index, search_dense to ringfence_app;
