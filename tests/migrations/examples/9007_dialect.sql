alter table documents add column dialect text not null default 'und';
