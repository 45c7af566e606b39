"""The HTML page: hostile content, structure, self-containment, contrast."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import html5lib
import nbformat.v4 as v4
import pytest
import sample_notebooks as notebooks
from bs4 import BeautifulSoup
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leptonami import html, markup
from leptonami.errors import InputError
from leptonami.page import TEMPLATES

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one pixel
STYLE = (TEMPLATES / "style.css").read_text()


def data(metadata: dict[str, Any] | None = None, **kinds: Any) -> Any:
    return v4.new_output(
        "display_data", {kind.replace("_", "/"): value for kind, value in kinds.items()}, metadata=metadata or {}
    )


def figure(alt: str | None = "A pixel that says nothing", **about: Any) -> Any:
    own: dict[str, Any] = {"width": 720, "height": 400} | ({"alt": alt} if alt is not None else {})
    return data({"image/png": own, "leptonami": {"role": "figure", **about}}, image_png=PNG, text_plain="Figure")


def page(tmp_path: Path, *cells: Any, strict: bool = True, **metadata: Any) -> str:
    source = notebooks.write(tmp_path / "some.ipynb", *cells, **metadata)
    return html.render(source, tmp_path / "some.html", strict=strict).read_text()


def soup_of(text: str) -> BeautifulSoup:
    return BeautifulSoup(text, "html.parser")


def output(*outputs: Any, source: str = "1") -> Any:
    return notebooks.code(source, outputs=list(outputs), count=1)


def strictly_parsed(text: str) -> None:
    """Fail for whatever a browser would have to guess about."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    parser.parse(text)


class Loads(HTMLParser):
    """Collects everything that would make a browser load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {
            "script",
            "iframe",
            "object",
            "embed",
            "video",
            "audio",
            "source",
            "form",
            "base",
            "svg",
            "math",
            "frame",
        }:
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            text = (value or "").strip().lower()
            if name.startswith("on") or name in {
                "style",
                "srcset",
                "srcdoc",
                "formaction",
                "background",
                "ping",
                "action",
            }:
                self.found.append(f"{tag} {name}")
            if name == "src" and not text.startswith("data:image/"):
                self.found.append(f"{tag} src={text}")
            if name == "href" and tag == "link" and text != "data:,":
                self.found.append(f"link {text}")
            if name == "href" and tag == "a" and not re.match(r"https?://|mailto:|#", text):
                self.found.append(f"a href={text}")
            if tag == "meta" and name == "http-equiv" and text != "content-security-policy":
                self.found.append(f"meta {text}")


def loads(text: str) -> list[str]:
    collector = Loads()
    collector.feed(text)
    return collector.found


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<img src="data:image/svg+xml,<svg onload=alert(1)>" alt="x">',
    '<img src="https://example.org/track.png" alt="x">',
    "<svg><script>alert(1)</script></svg>",
    "<svg/onload=alert(1)>",
    "<math><mtext><table><mglyph><style><img src onerror=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    '<a href=" java\nscript:alert(1)">x</a>',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    '<a href="//example.org">x</a>',
    "<iframe src=https://example.org></iframe>",
    "<object data=x></object><embed src=x>",
    "<form action=https://example.org><input name=a><button>x</button></form>",
    '<meta http-equiv="refresh" content="0;url=https://example.org">',
    '<base href="https://example.org">',
    '<link rel=stylesheet href="https://example.org/x.css">',
    "<style>body{background:url(https://example.org/x)}</style>",
    '<p style="background:url(https://example.org/x)">x</p>',
    '<div class="skip failure provenance measured">x</div>',
    '<p id="lp-content" name="lp-content">x</p>',
    "</main></body></html><h1>Another page</h1>",
    "<h1>Not the title</h1><h2>Not a section</h2>",
    "</pre></code></details><b>out",
    "<!-- --><!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<title></title><textarea></textarea><img src=x onerror=alert(1)>",
    "<template><script>alert(1)</script></template>",
    "<table background=https://example.org/x><tr><td onclick=alert(1)>x</table>",
    "<details open ontoggle=alert(1)>x</details>",
    "<x onfocus=alert(1) tabindex=1 autofocus>x</x>",
    "<p><p><b><i></p></b>",
    "{{ 7*7 }}{% for x in y %}",
    "\x00\x1b]0;title\x07\u202eabc",
    "<div>" * 5000,
    "<b>" * 300 + "deep",
    "<table><td><table><td><table><td>x",
    '<img alt="&quot;&gt;<script>" src="data:image/png;base64,' + PNG + '">',
    "$<script>alert(1)</script>$",
    "![x](javascript:alert(1))",
    "[x](javascript:alert(1))",
    "![](https://example.org/x.png)",
]


@pytest.mark.parametrize("text", HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
def test_hostile_content_is_no_markup(tmp_path: Path, text: str) -> None:
    cells = [
        notebooks.text("# The title\n\n## A section"),
        output(
            data(text_html=text),
            data(text_markdown=text),
            data(text_plain=text),
            data(text_latex=text),
            v4.new_output("stream", name="stdout", text=text),
            v4.new_output("error", ename=text, evalue=text, traceback=[text]),
            data({"image/png": {"alt": text}, "leptonami": {"caption": text, "provenance": text}}, image_png=PNG),
            data(application_json={"a": text}),
            data({"leptonami": {"role": "declaration", "provenance": "measured", "run": text}}, text_plain="x"),
            source=text,
        ),
        notebooks.text(text),
    ]
    result = page(
        tmp_path,
        *cells,
        strict=False,
        leptonami={
            "run": text,
            "outcome": {"status": text, "cell": 1, "error": {"message": text, "resource": text, "hint": text}},
            "source": {"name": text, "sha256": text},
            "versions": {text: text},
            "started": text,
        },
        papermill={"parameters": {text: [text]}},
    )
    assert loads(result) == []
    strictly_parsed(result)
    soup = soup_of(result)
    assert [tag.get_text() for tag in soup.find_all("h1")] == ["The title"]
    assert len(soup.find_all("main")) == 1
    assert len(soup.find_all(id="lp-content")) == 1
    assert [tag.get("class") for tag in soup.find_all(class_="skip")] == [["skip"]]
    assert "49" not in soup.get_text() if "7*7" in text else True
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", result)


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "<", ">", "/", "\"", "'", "=", " ", "\n", "<b>", "</b>", "<p>", "</p>", "<script>", "</script>",
            "<style>", "</style>", "<svg>", "<math>", "<table>", "<tr>", "<td>", "<th>", "</table>", "<img ",
            "src=", "onerror=", "x", "javascript:", "<!--", "-->", "&lt;", "&#x3c;", "<a href=", "data:", "<h1>",
            "</h1>", "<pre>", "<plaintext>", "<select>", "<option>", "<noscript>", "<title>", "<textarea>",
            "<mtext>", "<annotation-xml>", "<foreignObject>", "<li>", "<ul>", "<caption>",
        ]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@given(FRAGMENTS)
@settings(max_examples=400, deadline=None)
@example("<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>")
def test_no_mixture_gets_through(text: str) -> None:
    piece = markup.fragment(text, headings=markup.Headings())
    assert loads(piece.html) == []
    # What comes out means the same to every parser: parsed by a browser's rules, it is no different.
    again = html5lib.parseFragment(str(piece.html), namespaceHTMLElements=False)
    tags = {element.tag for element in again.iter() if isinstance(element.tag, str)}
    assert tags <= markup.TAGS | {"DOCUMENT_FRAGMENT"}


@given(st.text(alphabet=st.sampled_from("\x1b[]0123456789;:mKHABC\r\n\b<>&\"'\\\x07ab 😀\x00\x9b"), max_size=80))
@settings(max_examples=400)
def test_terminal_output_is_always_text(text: str) -> None:
    result = markup.terminal(text)
    soup = soup_of(result)
    assert {tag.name for tag in soup.find_all(True)} <= {"span"}
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", result)


class TestTerminal:
    @pytest.mark.parametrize(
        ("text", "result"),
        [
            ("\x1b[31mred\x1b[0m x", '<span class="ansi1">red</span> x'),
            ("\x1b[1;92mx\x1b[22my", '<span class="ansi2 bold">x</span><span class="ansi2">y</span>'),
            ("\x1b[38;5;200mx\x1b[38;2;1;2;3my\x1b[mz", "xyz"),
            ("\x1b[38;5;1;31mx", '<span class="ansi1">x</span>'),
            ("\x1b[30mblack\x1b[37mwhite", "blackwhite"),
            ("a\x1b[2Kb\x1b[3;4Hc", "abc"),
            ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b]0;a title\x07x", "x"),
            ("10%\r50%\r100%\nnext", "100%\nnext"),
            ("10%\r50%\r", "50%"),
            ("a\r\nb", "a\nb"),
            ("ab\bc", "ac"),
            ("<b>&", "&lt;b&gt;&amp;"),
            ("\x1b", ""),
            ("\x07bell", "�bell"),
        ],
    )
    def test_a_terminal_is_understood(self, text: str, result: str) -> None:
        assert markup.terminal(text) == result


class TestStructure:
    def test_headings_nest_and_anchors_are_unique(self, tmp_path: Path) -> None:
        result = page(
            tmp_path,
            notebooks.text("# The title\n\nWords."),
            notebooks.text("## One two\n\n#### Deep\n\n# Another top\n\n## One two\n\n## lp-content"),
            notebooks.text("<h3 id='x' onclick='y'>Raw <em>html</em></h3>"),
        )
        soup = soup_of(result)
        found = [(tag.name, tag.get_text(), tag.get("id")) for tag in soup.main.find_all(re.compile("h[1-6]"))]
        assert found == [
            ("h2", "One two", "One-two"),
            ("h3", "Deep", "Deep"),
            ("h2", "Another top", "Another-top"),
            ("h2", "One two", "One-two-2"),
            ("h2", "lp-content", "lp-content-2"),
            ("h3", "Raw html", "Raw-html"),
        ]
        links = [link["href"] for link in soup.nav.find_all("a")]
        assert links == [f"#{anchor}" for _, _, anchor in found]
        ids = [tag["id"] for tag in soup.find_all(id=True)]
        assert len(ids) == len(set(ids))
        assert soup.title is not None
        assert soup.title.get_text() == "The title"
        assert soup.html["lang"] == "en"
        assert soup.find("a", class_="skip")["href"] == "#lp-content"
        strictly_parsed(result)

    def test_a_notebook_without_a_title_has_its_name(self, tmp_path: Path) -> None:
        soup = soup_of(page(tmp_path, "1"))
        assert soup.h1.get_text() == "some"
        assert soup.nav is None

    def test_code_is_folded_and_highlighted(self, tmp_path: Path) -> None:
        cell = notebooks.code("for x in '<b>':\n    !ls", "parameters", count=1)
        soup = soup_of(page(tmp_path, cell))
        details = soup.main.find("details", class_="code")
        assert not details.has_attr("open")
        assert details.code.get_text() == "for x in '<b>':\n    !ls\n"
        assert "parameters and their defaults" in details.summary.get_text()

    def test_tags_hide_parts(self, tmp_path: Path) -> None:
        stream = v4.new_output("stream", name="stdout", text="shown")
        soup = soup_of(
            page(
                tmp_path,
                notebooks.code("secret_code", "remove-input", outputs=[stream]),
                notebooks.code(
                    "other_code", "remove-output", outputs=[v4.new_output("stream", name="stdout", text="gone")]
                ),
                notebooks.code("no_cell", "remove-cell", outputs=[stream]),
            )
        )
        text = soup.main.get_text()
        assert "shown" in text
        assert "other_code" in text
        assert "secret_code" not in text
        assert "gone" not in text
        assert "no_cell" not in text

    def test_streams_are_joined_and_long_ones_folded(self, tmp_path: Path) -> None:
        pieces = [v4.new_output("stream", name="stdout", text=f"line {number}\n") for number in range(100)]
        soup = soup_of(page(tmp_path, output(*pieces, v4.new_output("stream", name="stderr", text="warned"))))
        folded = soup.main.find("details", class_="long")
        assert folded.summary.get_text() == "Output: 100 lines"
        assert folded.pre.get_text().count("line") == 100
        assert soup.main.find("pre", class_="stderr").get_text() == "warned"

    def test_errors_are_told_with_the_traceback_folded(self, tmp_path: Path) -> None:
        error = v4.new_output(
            "error", ename="InputError", evalue="no <plan>", traceback=["\x1b[31mTraceback\x1b[0m", "x"]
        )
        soup = soup_of(page(tmp_path, output(error)))
        box = soup.main.find("div", class_="error")
        assert box.p.get_text() == "InputError: no <plan>"
        assert box.details.pre.get_text() == "Traceback\nx"

    def test_the_richest_representation_that_a_page_can_show(self, tmp_path: Path) -> None:
        soup = soup_of(
            page(
                tmp_path,
                output(
                    data(text_html="<p>as html</p>", text_plain="as text"),
                    data(**{"application_vnd.jupyter.widget-view+json": {}, "text_plain": "a widget"}),
                    data(application_javascript="alert(1)"),
                    data(application_json={"a": 1}),
                    data(text_html="   "),
                ),
            )
        )
        text = soup.main.get_text()
        assert "as html" in text
        assert "as text" not in text
        assert "a widget" in text
        assert "of the type application/javascript is not shown" in text
        assert '"a": 1' in text


TABLE = """<div><style scoped>.dataframe tbody tr th { color: red }</style>
<table border="1" class="dataframe"><caption>Calls by operation</caption>
<thead><tr style="text-align: right;"><th></th><th>name</th><th>calls</th></tr></thead>
<tbody><tr><th>0</th><td>RunInstances</td><td>1</td></tr>
<tr><th>1</th><td>a &lt;b&gt;</td><td>1,024</td></tr></tbody></table></div>"""


class TestTables:
    def test_a_pandas_table_is_accessible(self, tmp_path: Path) -> None:
        result = page(tmp_path, output(data(text_html=TABLE, text_plain="x")))
        strictly_parsed(result)
        soup = soup_of(result)
        box = soup.main.find("div", class_="scroll")
        assert box["tabindex"] == "0"
        assert box["aria-label"] == "Table: Calls by operation"
        assert box.caption.get_text() == "Calls by operation"
        assert [(cell.name, cell.get("scope"), cell.get_text()) for cell in box.thead.find_all(["td", "th"])] == [
            ("td", None, ""),
            ("th", "col", "name"),
            ("th", "col", "calls"),
        ]
        assert {cell["scope"] for cell in box.tbody.find_all("th")} == {"row"}
        assert [
            cell.get("class") for cell in box.find_all(["td", "th"]) if "1" in cell.get_text() and cell.name == "td"
        ] == [
            ["number"],
            ["number"],
        ]
        assert box.find("th", string="calls")["class"] == ["number"]
        assert "a <b>" in box.get_text()
        assert ".dataframe" not in soup.main.get_text()

    def test_real_pandas_tables(self, tmp_path: Path) -> None:
        import pandas as pd

        frame = pd.DataFrame(
            {("phase", "mean"): [1.5, 2.5], ("phase", "p90"): [3.0, 4.0], ("name", ""): ["<script>", "b"]},
            index=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["kind", "n"]),
        )
        result = page(tmp_path, output(data(text_html=frame.to_html())), output(data(text_html=frame.T._repr_html_())))
        strictly_parsed(result)
        scopes = {cell.get("scope") for cell in soup_of(result).main.find_all("th")}
        assert scopes == {"col", "colgroup", "row", "rowgroup"}
        assert "<script>" in soup_of(result).main.get_text()

    @pytest.mark.parametrize(
        ("texts", "numbers"),
        [
            (["1", "2.5", "1,024"], True),
            (["-3", "1e-3", ""], True),
            (["12.3 s", "4 GiB", "–"], True),
            (["", "-"], False),
            (["1.34", "g4dn.xlarge"], False),
            (["535.309.01", "1.34.5"], False),
            (["sha256", "1"], False),
        ],
    )
    def test_columns_of_numbers_are_aligned(self, texts: list[str], numbers: bool) -> None:
        rows = "".join(f"<tr><td>a</td><td>{text}</td></tr>" for text in texts)
        table = f"<table><thead><tr><th>x</th><th>y</th></tr></thead><tbody>{rows}</tbody></table>"
        found = soup_of(markup.fragment(table).html)
        cells = [found.find("th", string="y"), *(row.find_all("td")[1] for row in found.tbody.find_all("tr"))]
        assert {cell.get("class") == ["number"] for cell in cells} == {numbers}

    def test_joined_cells_are_counted(self) -> None:
        table = (
            "<table><tbody><tr><th rowspan=2>a</th><td>x</td><td>1</td></tr><tr><td>y</td><td>2</td></tr>"
            "<tr><td colspan=2>all</td><td>3</td></tr></tbody></table>"
        )
        found = soup_of(markup.fragment(table).html)
        assert [cell.get_text() for cell in found.find_all(class_="number")] == ["1", "2", "3"]

    def test_a_table_says_where_it_comes_from(self, tmp_path: Path) -> None:
        declared = data({"leptonami": {"role": "declaration", "provenance": "simulated"}}, text_plain="x")
        measured = data({"leptonami": {"provenance": "measured"}}, text_html=TABLE)
        soup = soup_of(page(tmp_path, output(declared, data(text_html=TABLE), measured)))
        assert [tag.get_text() for tag in soup.main.find_all(class_="from")] == ["simulated", "measured"]


class TestFigures:
    def test_a_figure_has_description_caption_and_size(self, tmp_path: Path) -> None:
        soup = soup_of(page(tmp_path, output(figure(caption="Ten <launches>", provenance="recorded"))))
        image = soup.main.find("img")
        assert image["alt"] == "A pixel that says nothing"
        assert (image["width"], image["height"]) == ("720", "400")
        assert image["src"] == f"data:image/png;base64,{PNG}"
        assert soup.main.figcaption.get_text() == "Ten <launches> recorded"

    @pytest.mark.parametrize("alt", [None, "", "  "])
    def test_a_missing_description_is_an_error_that_names_the_cell(self, tmp_path: Path, alt: str | None) -> None:
        cells = [notebooks.text("# T\n\n## Results"), "1", output(figure(alt))]
        with pytest.raises(InputError, match="no description") as caught:
            page(tmp_path, *cells)
        assert caught.value.resource == "some.ipynb, cell 2 (Results)"
        assert not (tmp_path / "some.html").exists()
        assert "This figure has no description." in page(tmp_path, *cells, strict=False)

    def test_svg_is_an_image_and_cannot_run(self, tmp_path: Path) -> None:
        drawing = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
        result = page(
            tmp_path, output(data({"image/svg+xml": {"alt": "A drawing of it"}}, **{"image_svg+xml": drawing}))
        )
        assert loads(result) == []
        source = soup_of(result).main.img["src"]
        assert base64.b64decode(source.partition(",")[2]).decode() == drawing

    def test_an_image_beside_the_notebook_is_embedded(self, tmp_path: Path) -> None:
        (tmp_path / "a b.png").write_bytes(base64.b64decode(PNG))
        soup = soup_of(page(tmp_path, notebooks.text("# T\n\n![What it shows](a%20b.png)")))
        assert soup.main.img["src"].startswith("data:image/png;base64,")
        assert soup.main.img["alt"] == "What it shows"

    @pytest.mark.parametrize(
        "address",
        [
            "https://example.org/x.png",
            "//example.org/x.png",
            "missing.png",
            "../outside.png",
            "text.png",
            "file:///etc/passwd",
            "/etc/passwd",
        ],
    )
    def test_no_other_image_is(self, tmp_path: Path, address: str) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "text.png").write_text("no image")
        (tmp_path / "outside.png").write_bytes(base64.b64decode(PNG))
        cell = notebooks.text(f"# T\n\n![What it shows]({address})")
        with pytest.raises(InputError, match="cannot be embedded"):
            page(folder, cell)
        result = page(folder, cell, strict=False)
        assert loads(result) == []
        assert "[What it shows]" in result

    def test_an_output_cannot_have_files_embedded(self, tmp_path: Path) -> None:
        (tmp_path / "private.png").write_bytes(base64.b64decode(PNG))
        result = page(
            tmp_path, output(data(text_markdown="![x](private.png)"), data(text_html='<img src="private.png" alt="y">'))
        )
        assert "data:image" not in result
        assert "[x]" in result

    def test_an_attachment_is_embedded_and_a_missing_one_is_an_error(self, tmp_path: Path) -> None:
        cell = notebooks.text("# T\n\n![What it shows](attachment:a.png)")
        cell["attachments"] = {"a.png": {"image/png": PNG}}
        assert soup_of(page(tmp_path, cell)).main.img["src"].endswith(PNG)
        with pytest.raises(InputError, match="missing"):
            page(tmp_path, notebooks.text("# T\n\n![What it shows](attachment:b.png)"))

    def test_an_undescribed_image_in_text_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(base64.b64decode(PNG))
        with pytest.raises(InputError, match="no description") as caught:
            page(tmp_path, notebooks.text("# T\n\n## S\n\n![](a.png)"))
        assert caught.value.resource == "some.ipynb, text cell 1 of 1 (S)"


class TestTitleBlock:
    def test_simulated_is_loud(self, tmp_path: Path) -> None:
        declared = data(
            {"leptonami": {"role": "declaration", "provenance": "simulated", "run": "the-run"}}, text_plain="x"
        )
        measured = data({"leptonami": {"role": "declaration", "provenance": "measured"}}, text_plain="x")
        soup = soup_of(page(tmp_path, notebooks.text("# Launch times"), output(measured), output(declared)))
        assert soup.title.get_text() == "Simulated: Launch times"
        assert "Nothing here was measured" in soup.header.get_text()
        assert soup.body["class"] == ["simulated"]
        assert "the-run" in soup.header.get_text()

    def test_unstated_is_said(self, tmp_path: Path) -> None:
        assert "not stated" in soup_of(page(tmp_path, "1")).header.get_text()

    def test_facts_and_parameters(self, tmp_path: Path) -> None:
        soup = soup_of(
            page(
                tmp_path,
                "1",
                leptonami={
                    "run": "20261123-211500-a1b2c3",
                    "outcome": {"status": "completed", "seconds": 75.04},
                    "started": "2026-11-23T21:15:00+00:00",
                    "versions": {"python": "3.11.7"},
                    "source": {"name": "10_build.ipynb", "sha256": "ab" * 32},
                },
                papermill={"parameters": {"kubernetes": "1.30", "trials": 3}},
            )
        )
        rows = dict(
            zip(
                [each.get_text() for each in soup.header.find_all("dt")],
                [each.get_text() for each in soup.header.find_all("dd")],
                strict=True,
            )
        )
        assert rows == {
            "Run": "20261123-211500-a1b2c3",
            "Ended": "completed",
            "Started": "2026-11-23 21:15:00 UTC",
            "Took": "1 min 15 s",
            "Notebook": "10_build.ipynb",
            "SHA-256": "abababababab",
            "Versions": "python 3.11.7",
        }
        cells = [cell.get_text() for cell in soup.header.tbody.find_all(["th", "td"])]
        assert cells == ["kubernetes", '"1.30"', "trials", "3"]


class TestFile:
    def test_it_is_small_and_forbids_everything(self, tmp_path: Path) -> None:
        result = page(tmp_path, notebooks.text("# T\n\n[a link](https://example.org)"), output(data(text_html=TABLE)))
        assert len(result) < 20_000
        policy = soup_of(result).find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert loads(result) == []
        assert re.findall(r"https?://[^\s\"'<]+", result) == ["https://example.org"]
        assert soup_of(result).main.find("a")["rel"] == ["noopener", "noreferrer"]
        assert "@import" not in result
        assert "url(" not in result

    def test_the_same_notebook_gives_the_same_bytes(self, tmp_path: Path) -> None:
        cells = (notebooks.text("# T"), output(data(text_html=TABLE), figure()))
        assert page(tmp_path, *cells) == page(tmp_path, *cells)

    @pytest.mark.parametrize(
        "content", ["", "{}", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}']
    )
    def test_what_is_no_notebook(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "a.ipynb"
        path.write_text(content)
        with pytest.raises(InputError, match="notebook"):
            html.render(path, tmp_path / "a.html")

    def test_a_page_that_cannot_be_written(self, tmp_path: Path) -> None:
        source = notebooks.write(tmp_path / "a.ipynb", "1")
        with pytest.raises(InputError, match="cannot be written"):
            html.render(source, source / "a.html")


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def themes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\n\s*\}", STYLE, re.DOTALL)
    found = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


PAIRS = [
    (text, back)
    for text in ("text", "quiet", "link", "red", "green", "yellow", "blue", "magenta", "cyan")
    for back in ("back", "soft")
]
PAIRS += [("warn-text", "warn-back"), ("bad-text", "bad-back"), ("good-text", "good-back")]


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
@pytest.mark.parametrize(("text", "back"), PAIRS)
def test_contrast_is_enough(theme: str, text: str, back: str) -> None:
    """WCAG 2.2, 1.4.3 (AA): 4.5 to 1 for text."""
    colours = themes()[theme]
    assert contrast(colours[text], colours[back]) >= 4.5


def test_every_theme_has_every_colour() -> None:
    names = {name: set(colours) for name, colours in themes().items()}
    assert names["light"] == names["dark"] == names["print"]
    used = set(re.findall(r"var\(--([a-z-]+)\)", STYLE))
    assert used == names["light"]
