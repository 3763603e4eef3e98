-- What the divided table needs as its primary key, and the proof that all rows are in the shared part.
create unique index concurrently if not exists embeddings_key on embeddings (user_id, document_id, number, model_id, part);
alter table embeddings validate constraint embeddings_part;
