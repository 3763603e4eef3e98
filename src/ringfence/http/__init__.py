"""The HTTP door: the only room that knows FastAPI."""
