"""Chats as they are kept: titles, words that are no text, what is read in pages."""

import pytest

from ringfence.chats.asking import Ask
from ringfence.chats.exported import traces_list
from ringfence.chats.said import Seen
from ringfence.chats.service import titled
from ringfence.errors import Invalid, Unauthenticated
from ringfence.ids import new_message_id, new_user_id
from tests.chats.conftest import QUESTION


@pytest.mark.parametrize(
    ("question", "title"),
    [
        (" How  long\nis it? ", "How long is it?"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("Which of the departments, and since when, answers for the ovens, please?",
         "Which of the departments, and since when, answers for the…"),
    ],
)  # fmt: skip
def test_a_title_is_the_beginning_of_the_question(question, title):
    assert titled(question) == title


async def test_an_account_that_is_gone_begins_no_chat(chats):
    with pytest.raises(Unauthenticated, match="unknown_account"):
        await chats.add(new_user_id())


async def test_a_comment_is_text(chats, user):
    chat = await chats.add(user)
    with pytest.raises(Invalid, match="bad_comment"):
        await chats.rate(user, chat.chat_id, new_message_id(), rating=None, comment="\0")


async def test_more_than_a_page_is_all_there_in_order(process, chats, user, admin):
    chat = await chats.add(user)
    writing = await process().ask(user, chat.chat_id, Ask(QUESTION))
    [_ async for _ in writing.follow(Seen())]
    await admin.execute(
        "insert into chats (user_id, chat_id) select $1, gen_random_uuid() from generate_series(1, 450)", user
    )
    await admin.execute(
        "insert into messages (user_id, chat_id, message_id, role, text, state) "
        "select user_id, chat_id, gen_random_uuid(), 'assistant', 'x', 'done' from chats where title is null"
    )
    await admin.execute(
        "insert into traces (user_id, chat_id, message_id, query, parameters, prompt, passages) "
        "select user_id, chat_id, message_id, 'x', '{}', '[]', '[]' from messages where text = 'x'"
    )
    found = [chat for page in [page async for page in chats.all(user)] for chat in page]
    assert len(found) == len({chat.chat_id for chat in found}) == 451
    messages = [message for page in [page async for page in chats.all_messages(user)] for message in page]
    assert len({message.message_id for message in messages}) == len(messages) == 452
    traces = [trace for page in [page async for page in traces_list(chats)(user)] for trace in page]
    assert len({trace.message_id for trace in traces}) == len(traces) == 451
    [full] = [trace for trace in traces if trace.passages]
    assert full.passages[0].text == "The notice period is six weeks to the end of a quarter."
    assert full.passages[0].document == "hand  book.txt"
