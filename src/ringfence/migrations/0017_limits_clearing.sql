-- A try clears nothing away any more: beside other buckets of the same transaction that ended in deadlocks. Upkeep does
-- (limits.forget_buckets).
create or replace function limits_take(name bytea, moment timestamptz, step interval, depth interval)
returns double precision language plpgsql as $$
declare
    level timestamptz;
begin
    insert into limits as l (bucket, full_at) values (name, moment + step)
    on conflict (bucket) do update set full_at = greatest(l.full_at, moment) + step
        where greatest(l.full_at, moment) + step <= moment + depth
    returning full_at into level;
    if level is null then
        select full_at into level from limits where bucket = name;
        return -extract(epoch from level + step - depth - moment);
    end if;
    return extract(epoch from level - moment);
end
$$;
