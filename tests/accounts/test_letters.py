"""Letters: both forms say the same, and nothing that goes into them can become markup or a header."""

from html.parser import HTMLParser

import pytest

from ringfence.accounts.letters import Letter

VALUES = {
    "code": "01234567",
    "minutes": 10,
    "new": "ann@example.org",
    "prefix": "rfk_q83vEjRW",
    "scopes": "read, write",
}


class Words(HTMLParser):
    """The words that a reader of the HTML sees, and the tags."""

    def __init__(self):
        super().__init__()
        self.words, self.tags, self.inside = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "body" in self.inside:
            self.words += data.split()


def read(html):
    reader = Words()
    reader.feed(html)
    return reader


@pytest.mark.parametrize("letter", Letter)
def test_text_and_html_say_the_same(letters, letter):
    mail = letters.written(letter, "ann@example.com", **VALUES)
    assert "\n" not in mail.subject
    assert mail.subject
    assert read(mail.html).words == mail.text.split()
    assert mail.subject in mail.html


@pytest.mark.parametrize("letter", Letter)
def test_no_letter_holds_a_link_a_picture_or_a_script(letters, letter):
    mail = letters.written(letter, "ann@example.com", **VALUES)
    assert not {"a", "img", "script", "link", "iframe"} & read(mail.html).tags
    assert "://" not in mail.text + mail.html


@pytest.mark.parametrize("letter", [Letter.VERIFY, Letter.RESET, Letter.MOVE])
def test_the_code_stands_out_and_is_there_once(letters, letter):
    mail = letters.written(letter, "ann@example.com", **VALUES)
    assert mail.html.count("01234567") == mail.text.count("01234567") == 1
    assert ">01234567</strong>" in mail.html


def test_values_are_no_markup(letters):
    mail = letters.written(Letter.MOVED, "ann@example.com", new="<b>&\"'@example.org")
    assert "<b>" in mail.text
    assert "<b>" not in mail.html
    assert "&lt;b&gt;&amp;" in mail.html


def test_a_letter_that_lacks_a_value_is_a_defect(letters):
    with pytest.raises(Exception, match="'code' is undefined"):
        letters.written(Letter.VERIFY, "ann@example.com", minutes=10)
