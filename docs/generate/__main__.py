"""python -m docs.generate: draw docs/figures; write the tables in docs/families and the other pages here."""

from docs.generate.accuracy import with_accuracies
from docs.generate.families import PAGES, families, with_table
from docs.generate.figures import COMPARISONS, FIGURES, draw
from docs.generate.recipes import recipes_page
from docs.generate.studies import with_verdicts
from docs.generate.zoo import DOCS, published_page, zoo_page

for name in COMPARISONS:
    (FIGURES / f"{name}.svg").write_text(draw(name))
for family, names in families().items():
    page = PAGES / f"{family}.md"
    page.write_text(with_table(page.read_text(), names))
(DOCS / "zoo.md").write_text(zoo_page())
(DOCS / "published.md").write_text(published_page())
(DOCS / "recipes.md").write_text(recipes_page())
studies = DOCS / "studies.md"
studies.write_text(with_verdicts(studies.read_text()))
accuracy = DOCS / "accuracy.md"
accuracy.write_text(with_accuracies(accuracy.read_text()))
