-- Both may take long, and block nobody.
alter table chunks validate constraint chunks_weight_present;
create index concurrently if not exists chunks_weight on chunks (user_id, weight);
