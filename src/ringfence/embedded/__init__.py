"""The zero-set-up defaults: PostgreSQL, model weights and a chat server that come with the wheel or are pulled once."""
