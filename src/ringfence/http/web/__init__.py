"""The web app: pages that the server renders, and small modules that fill them from the API; nothing from elsewhere."""

from ringfence.http.web.answers import router as answers_router
from ringfence.http.web.assets import mount
from ringfence.http.web.pages import PageRoute, not_found, router
from ringfence.http.web.rendering import DEMO_ROUTE, MAIL_ROUTE, render

__all__ = ["DEMO_ROUTE", "MAIL_ROUTE", "PageRoute", "answers_router", "mount", "not_found", "render", "router"]
