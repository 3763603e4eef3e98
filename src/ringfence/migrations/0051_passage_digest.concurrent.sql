create index concurrently if not exists chunks_passage_digest on chunks (user_id, passage_digest) where passage_digest is not null;
