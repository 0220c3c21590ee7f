"""python -m docs.generate: draw docs/figures, count the tables of docs/families, docs/zoo.md and docs/published.md."""

from docs.generate.families import PAGES, families, with_table
from docs.generate.figures import COMPARISONS, FIGURES, draw
from docs.generate.zoo import DOCS, published_page, zoo_page

for name in COMPARISONS:
    (FIGURES / f"{name}.svg").write_text(draw(name))
for family, names in families().items():
    page = PAGES / f"{family}.md"
    page.write_text(with_table(page.read_text(), names))
(DOCS / "zoo.md").write_text(zoo_page())
(DOCS / "published.md").write_text(published_page())
