"""EVALUATION: a collection → a scratch tenant → searches → measures → a report; and users' own questions, as jobs."""
