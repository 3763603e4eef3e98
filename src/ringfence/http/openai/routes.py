"""All routes below `/v1`."""

from ringfence.http.openai import chat, embeddings, files, models, store_search, stores

ROUTERS = (chat.router, models.router, embeddings.router, files.router, stores.router, store_search.router)
