-- A job for each tenant who has chunks: those of before come into the lexical index. It waits until workers of the last
-- version, which do not know it, have gone.
insert into jobs (user_id, kind, payload, tag, run_after)
select $1, 'index', '{"step": "fill"}', value, now() + interval '10 minutes' from job_clock
where exists (select from chunks where user_id = $1 limit 1)
  and not exists (select from jobs where user_id = $1 and kind = 'index')
  and not exists (select from lexical_segments where user_id = $1)
