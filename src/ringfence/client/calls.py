"""The client for programs that await."""

from ringfence.client.account import AccountCalls
from ringfence.client.chats import ChatCalls
from ringfence.client.documents import DocumentCalls
from ringfence.client.evaluations import EvaluationCalls
from ringfence.client.library import LibraryCalls
from ringfence.client.progress import ProgressCalls
from ringfence.client.questions import QuestionCalls


class Client(AccountCalls, ChatCalls, DocumentCalls, EvaluationCalls, LibraryCalls, ProgressCalls, QuestionCalls):
    """One account's access to a server. Errors are the engine's own (`ringfence.errors`).

    Args:
        url: of the server, e.g. `http://127.0.0.1:8000`.
        token: an API key, or a session's access token; or call `sign_in`.
        transport: takes the place of real connections.
    """
