import pytest

from ringfence.documents import sniff
from tests.documents.parsing.made import code, headings, pages


def text(html: str, folder) -> str:
    [page] = pages(html.encode(), sniff.HTML, folder)
    return page


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>one<p>two\n three<br>four<b> five</b>", "one\n\ntwo three\nfour five"),
        ("<head><title>T</title><style>x{}</style></head><body>a", "# T\n\na"),
        ("<title>T</title><h1>U</h1><p>x", "# T\n\n# U\n\nx"),
        ("<head><meta charset=utf-8><link><body>open head", "open head"),
        ("<script>no</script x><p>yes</p><script>cut", "yes"),
        ("<svg><svg></svg><text>no</text></svg>yes<object>no</object><template>no", "yes"),
        ("<h1>A <i>title</i></h1><h3>B</h3>c", "# A title\n\n### B\n\nc"),
        ("<ul><li>a<li>b<ol><li>x<li><p>y</p></ol></ul><li>z", "- a\n- b\n  1. x\n  2. y\n- z"),
        ("<pre>  x\n y</pre></pre>z", "```\n  x\n y\n```\n\nz"),
        ("<img src=a alt='a picture'><img> of it", "a picture of it"),
        ("a&amp;b &lt;c&gt; &eacute;", "a&b <c> é"),
        ("<![if x]>a<![endif]><![foo[b]]>", "a<![foo[b]]>"),
        ("<p><![CDATA[raw]]></p><![CDATA[more]]>", "raw\n\nmore"),
        ("</ul></table></td>stray", "stray"),
        ("<br/>a<hr/>b", "a\n\nb"),
    ],
)
def test_markup(html, expected, tmp_path):
    assert text(html, tmp_path) == expected


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<table><tr><th>A<th>B<tr><td>1<td>2</table>", "| A | B |\n| --- | --- |\n| 1 | 2 |"),
        (
            "<table><tr><td rowspan=2>a</td><td colspan=2>b</td></tr><tr><td>c</td><td>d</td></tr></table>",
            "| a | b |  |\n| --- | --- | --- |\n|  | c | d |",
        ),
        ("<table><td>a</td><td colspan=x rowspan=0>b</td></table>", "| a | b |\n| --- | --- |"),
        ("<table><tr><td><p>x</p><ul><li>y</ul></td><td>z</td></tr></table>", "| x - y | z |\n| --- | --- |"),
        ("<table><tr><td>layout</td></tr><tr><td>only</td></tr></table>", "layout\n\nonly"),
        (
            "<table><tr><td><table><tr><td>in</td><td>ner</td></tr></table></td><td>b</td></tr></table>",
            "| in; ner | b |\n| --- | --- |",
        ),
        ("<table><tr><td>open<td>end", "| open | end |\n| --- | --- |"),
        ("<table><caption>Cap</caption></table><td>no table</td>", "Cap\n\nno table"),
    ],
)
def test_tables(html, expected, tmp_path):
    assert text(html, tmp_path) == expected


def test_headings(tmp_path):
    assert headings(b"<h2>One</h2><p>x<h6>Six</h6>", sniff.HTML, tmp_path) == [(1, "One", 2), (1, "Six", 6)]


def test_depth_does_no_harm(tmp_path):
    assert text("<div><ul><table>" * 20_000 + "deep", tmp_path) == "deep"


def test_hidden_text_is_kept(tmp_path):
    assert text('<p style="display:none">hidden</p>', tmp_path) == "hidden"


def test_nothing(tmp_path):
    assert code(b"<html><script>x</script></html>", sniff.HTML, tmp_path) == "no_text"
