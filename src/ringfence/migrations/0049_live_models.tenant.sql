-- The newest model of a tenant's vectors is the one that it was searched with.
insert into live_models (user_id, model_id)
select $1, e.model_id from embeddings e
where e.user_id = $1 and not exists (select from live_models l where l.user_id = $1)
order by e.model_id desc limit 1
on conflict do nothing
