-- Expand: from here on, new rows are right by themselves.
alter table chunks add column weight real;
alter table chunks alter column weight set default 1;
