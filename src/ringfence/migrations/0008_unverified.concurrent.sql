alter table one_time_codes validate constraint one_time_codes_purpose;

-- What is removed by its age: registrations and recoveries that nobody completed, and sessions.
create index concurrently if not exists users_unverified on users (created_at) where verified_at is null;
create index concurrently if not exists sessions_expires_at on sessions (expires_at);
