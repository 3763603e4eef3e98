-- Jobs over which a worker fell silent, and those set aside for a person: few, and looked for at each turn of the queue.
create index concurrently if not exists jobs_suspect on jobs (crashes, tag, job_id) where state = 'ready' and crashes > 0;
create index concurrently if not exists jobs_parked on jobs (user_id, kind) where state = 'parked';
