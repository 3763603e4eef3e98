"""The composition root: settings → services. Nothing is built at import; whoever opens the services closes them."""

from ringfence.services.administration import Admin, open_admin
from ringfence.services.api import Services, open_services
from ringfence.services.chat_models import chat_weights
from ringfence.services.evaluating import Evaluating, open_evaluating
from ringfence.services.maintenance import open_maintenance
from ringfence.services.parts import (
    EMBEDDING_WEIGHTS,
    admin_url,
    database_urls,
    embedding_names,
    local_secret,
    mail_folder_transport,
    open_storage,
    require_secret,
    require_smtp,
    role_passwords,
    utc_now,
)
from ringfence.services.work import Work, open_handlers

__all__ = [
    "EMBEDDING_WEIGHTS",
    "Admin",
    "Evaluating",
    "Services",
    "Work",
    "admin_url",
    "chat_weights",
    "database_urls",
    "embedding_names",
    "local_secret",
    "mail_folder_transport",
    "open_admin",
    "open_evaluating",
    "open_handlers",
    "open_maintenance",
    "open_services",
    "open_storage",
    "require_secret",
    "require_smtp",
    "role_passwords",
    "utc_now",
]
