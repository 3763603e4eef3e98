"""The API as OpenAI's clients know it, below `/v1`: answers as chat completions, documents as files, and the like."""
