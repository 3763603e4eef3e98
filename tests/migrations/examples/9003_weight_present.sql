alter table chunks add constraint chunks_weight_present check (weight is not null) not valid;
