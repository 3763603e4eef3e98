"""Ringfence: a multi-tenant RAG engine whose tenants are fenced off from each other inside PostgreSQL."""

from importlib.metadata import version

__version__ = version("ringfence")
