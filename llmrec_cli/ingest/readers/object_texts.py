"""Objects in columns that texts are made of: JSON is no text that a person reads."""

from collections.abc import Iterator

from llmrec_cli.ingest.engine import collect, size
from llmrec_cli.ingest.readers.array_texts import parsed
from llmrec_cli.ingest.readers.cells import TELLING_KEYS
from llmrec_cli.ingest.texts.entities import Described
from llmrec_cli.ingest.texts.telling import TextRules, has_objects

_LOOKED_AT = 200


def object_notes(described: Described, rules: TextRules) -> Iterator[str]:
    """Yield a sentence for each column whose objects are in the text, or left out of one that has no template."""
    key = f"dataset.{rules.kind}_text"
    fields = rules.template.fields if rules.template is not None else ()
    for name, column in zip(described.names, described.columns(), strict=True):
        if described.rows is None or not (name in fields or rules.joins(name)):
            continue
        odd = described.rows.filter(described.rows[column].re_search(r"^\s*(\{\s*[\"'}]|\[\s*[\[{])"))
        some: list[str] = collect(odd.order_by(f"{rules.kind}_id").limit(_LOOKED_AT).select(column))[column].to_pylist()
        value = next((parsed(text) for text in some if has_objects(text.strip())), None)
        if value is None:
            continue
        path = name
        while isinstance(value, list):
            path = f"{path}[]"
            value = next((entry for entry in value if isinstance(entry, (dict, list))), "")
        inside = f".{next((one for one in TELLING_KEYS if one in value), next(iter(value), '<key>'))}" \
            if isinstance(value, dict) else ""
        fate = "are JSON in the text" if name in fields else "are left out of the text"
        yield (f"'{name}' has objects in {size(odd):,} {rules.kind}s, which {fate}; take what is inside with "
               f"{key}='{{{path}{inside}}}'")
