"""FIND: query → passages of one tenant."""
