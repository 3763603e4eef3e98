-- What became of an answer's sentences when they were checked: for each its place in the answer's text, and the verdict.
alter table messages add column claims jsonb not null default '[]';
