"""A page as its parts: tables by the heading above them, lead sentences, figures, tags."""

from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """What a reader of a page can point at.

    `tables[heading]` is a list of rows, each a table from the head of a column to its cell.
    `leads[heading]`, `warnings` and `figures` (what is said below a figure: the figure) are texts.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.handlers, self.text = [], [], []
        self.tables, self.leads, self.figures, self.warnings = {}, {}, {}, []
        self.title, self.heading, self.badge = "", "", ""
        self._open, self._heads, self._row, self._figure = [], [], None, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag in VOID:
            return
        self._open.append((tag, dict(attrs).get("class") or "", []))
        if tag == "tr":
            self._row = []

    def handle_data(self, data):
        self.text.append(data)
        for _, _, said in self._open:
            said.append(data)

    def handle_endtag(self, tag):
        name, kind, said = self._open.pop()
        assert name == tag, f"<{name}> is closed by </{tag}>"
        self._take(tag, kind, " ".join("".join(said).split()))

    def _take(self, tag, kind, text):
        match tag, kind:
            case "h1", _:
                self.title = text
            case "h2", _:
                self.heading = text
            case "span", badge if badge.startswith("badge"):
                self.badge = text
            case "p", "lead":
                self.leads.setdefault(self.heading, []).append(text)
            case "p", "warning":
                self.warnings.append(text)
            case "b", _:
                self._figure = text
            case "span", _ if self._open[-1][1] == "figure":
                self.figures[text] = self._figure
            case (("th" | "td"), _):
                self._row.append((tag, text))
            case "tr", _:
                self._end_row()

    def _end_row(self):
        if all(tag == "th" for tag, _ in self._row):
            self._heads = [text for _, text in self._row]
            self.tables[self.heading] = []
            return
        cells = [text for _, text in self._row]
        row = dict(zip(self._heads, cells, strict=True))
        self.tables[self.heading].append(row)

    def row(self, heading, first):
        """The one row of a table whose first cell says so."""
        (found,) = [row for row in self.tables[heading] if next(iter(row.values())) == first]
        return found
