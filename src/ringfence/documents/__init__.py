"""IN: upload → parse → chunk → embed → store."""
