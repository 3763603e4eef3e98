-- As of 0041_dense.sql and 0061_search_snapshot.sql, but the larger an index is, the more candidates a search keeps: with as
-- many for all, one of 100,000 vectors found nine of ten where one of 20,000 found more (decision 26).
create or replace function dense_index(u uuid, m smallint, q halfvec, n integer, docs uuid[], ef integer)
returns table (document_id uuid, number integer, distance double precision)
language plpgsql stable
set max_parallel_workers_per_gather = 0
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    rows float8 := (select c.reltuples from pg_class c
        where c.oid = to_regclass('public.embeddings_' || translate(u::text, '-', '')));
begin
    perform set_config('hnsw.iterative_scan', 'relaxed_order', true),
        set_config('hnsw.ef_search', least(1000, greatest(ef * sqrt(greatest(rows / 25000, 1)), 2 * n))::integer::text, true);
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
