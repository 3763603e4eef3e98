-- How much a user may keep and ask, how much they asked, and a limit's try as a function, which a statement of another
-- feature can call.

-- What an operator set for one user: null is the installation's default, 0 no limit.
create table quotas (
    user_id   uuid primary key references users on delete cascade,
    documents bigint check (documents >= 0),
    bytes     bigint check (bytes >= 0),
    questions bigint check (questions >= 0)
);
alter table quotas enable row level security;
alter table quotas force row level security;
create policy tenant on quotas to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
create policy system on quotas to ringfence_system using (true) with check (true);
grant select on quotas to ringfence_app;
grant select, insert, update, delete on quotas to ringfence_system;

-- One row a user: how many questions they asked on the last day on which they asked any, in UTC.
create table questions_asked (
    user_id   uuid primary key references users on delete cascade,
    day       date not null,
    questions bigint not null check (questions >= 0)
);
alter table questions_asked enable row level security;
alter table questions_asked force row level security;
create policy tenant on questions_asked to ringfence_app
    using (user_id = nullif(current_setting('app.user_id', true), '')::uuid)
    with check (user_id = nullif(current_setting('app.user_id', true), '')::uuid);
grant select, insert, update on questions_asked to ringfence_app;

-- Count a try: GCRA, see limits.py. Above 0: it was counted, and after so many seconds the bucket is empty again.
-- Below 0: it was not counted, and the next one is allowed after so many seconds.
create function limits_take(name bytea, moment timestamptz, step interval, depth interval) returns double precision
language plpgsql as $$
declare
    level timestamptz;
    fresh boolean;
begin
    insert into limits as l (bucket, full_at) values (name, moment + step)
    on conflict (bucket) do update set full_at = greatest(l.full_at, moment) + step
        where greatest(l.full_at, moment) + step <= moment + depth
    returning full_at, xmax = 0 into level, fresh;
    if level is null then
        select full_at into level from limits where bucket = name;
        return -extract(epoch from level + step - depth - moment);
    end if;
    -- The table grows by new buckets alone, so only they clear away: nothing that is in use, and some at a time.
    if fresh then
        delete from limits where bucket in (
            select bucket from limits where full_at < moment - interval '1 hour' limit 100 for update skip locked);
    end if;
    return extract(epoch from level - moment);
end
$$;
