"""A table of one benchmark, printed as Markdown so that the README can quote it unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows of text under a heading, with the sentence that says what was measured on what."""

    title: str
    columns: tuple[str, ...]
    caption: str
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        if len(cells) != len(self.columns):
            raise ValueError(f"a row of {self.title!r} must have {len(self.columns)} cells, got {len(cells)}: {cells}")
        self.rows.append(tuple(str(cell) for cell in cells))

    def __str__(self) -> str:
        lines = [f"### {self.title}", "", self.caption, ""]
        lines.append("| " + " | ".join(self.columns) + " |")
        lines.append("|" + "---|" * len(self.columns))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines)
