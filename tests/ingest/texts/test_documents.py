"""Documents about items: assigned by item or entity, cleaned, counted, with errors for bad files."""

import pytest

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import DataError
from llmrec_cli.settings.dataset import FilesSettings, KnowledgeSettings
from tests.ingest.preparing import Prepared, prepare_with, write

CLICKS = "user_id,item_id\nu,a\nu,b\nv,a\nv,c\n"
TRIPLES = "head,relation,tail\nm1,by,y\nm2,by,y\n"
LINKS = "item_id,entity_id\na,m1\nb,m2\n"


def prepared(folder, documents: dict[str, str], knowledge: bool = False, **settings) -> Prepared:
    """Prepare three items with these files of documents, {name: text}."""
    settings |= {"documents": [str(write(folder, text, name)) for name, text in documents.items()]}
    if knowledge:
        settings |= {"knowledge": KnowledgeSettings(triples=str(write(folder, TRIPLES, "kg.csv"))),
                     "links": str(write(folder, LINKS, "links.csv"))}
    files = FilesSettings(interactions=str(write(folder, CLICKS, "clicks.csv")), max_reject_share=0.5, **settings)
    assert not list(files.problems())
    return prepare_with(folder, files)


def message(result: Prepared) -> list[tuple[str, str]]:
    return [(row["item_id"], row["text"]) for row in result.rows("documents")]


def test_an_item_has_any_number_of_documents_in_any_language_once_each(tmp_path):
    rows = "a,Ein Schiff\na,一艘船\na,Ein Schiff\nb,\nnobody,lost\n,none\n"
    result = prepared(tmp_path, {"d.csv": f"item_id,text\n{rows}"})
    assert sorted(message(result)) == [("a", "Ein Schiff"), ("a", "一艘船")]
    assert {key: result.counts[key] for key in result.counts if "document" in key} == {
        "documents_read": 6, "documents_rejected": 2, "documents_repeated": 1, "documents": 2, "documents_unknown": 1,
        "items_documented": 1}
    assert [(row["line"], row["column"]) for row in result.rows("rejects")] == [(5, "text"), (7, "item_id")]
    read = read_prepared(tmp_path / "out").training("train").documents
    assert read is not None
    assert sorted(read.texts) == ["Ein Schiff", "一艘船"]
    assert read.item.tolist() == [0, 0]


def test_documents_of_entities_reach_items_through_links(tmp_path):
    result = prepared(tmp_path, {"e.csv": "entity_id,text\nm1,about one\ny,about a maker\nm2,about two\n",
                                "i.csv": "text,item_id\nof c,c\n"}, knowledge=True)
    assert message(result) == [("a", "about one"), ("b", "about two"), ("c", "of c")]
    assert result.counts["documents_unknown"] == 1


def test_tags_go_and_a_long_document_is_cut(tmp_path):
    result = prepared(tmp_path, {"d.csv": "item_id,text\na,<p>one &amp; two</p>\n"}, max_text_length=7)
    assert message(result) == [("a", "one & t")]


@pytest.mark.slow
def test_columns_may_have_other_names(tmp_path):
    result = prepared(tmp_path, {"d.csv": "item_id,extract\na,words\n"}, columns={"text": "extract"})
    assert message(result) == [("a", "words")]


def test_data_without_documents_has_none(tmp_path):
    prepare_with(tmp_path, FilesSettings(interactions=str(write(tmp_path, CLICKS, "clicks.csv"))))
    assert read_prepared(tmp_path / "out").documents is None


@pytest.mark.slow
def test_documents_without_an_item_or_entity_id_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"d.csv: neither a column 'item_id' nor a column 'entity_id', so the subject"):
        prepared(tmp_path, {"d.csv": "text\nwords\n"})
    with pytest.raises(DataError, match=r"d.csv: no column 'text'"):
        prepared(tmp_path, {"d.csv": "item_id,words\na,b\n"})
    with pytest.raises(DataError, match=r"no links between items and entities are given; set dataset.knowledge=<file>"):
        prepared(tmp_path, {"d.csv": "entity_id,text\nm1,words\n"})


@pytest.mark.slow
@pytest.mark.audited
def test_documents_of_unknown_items_give_a_warning(tmp_path, capsys):
    result = prepared(tmp_path, {"d.csv": "item_id,text\nx,words\n"})
    assert result.counts["documents"] == 0
    output = " ".join(capsys.readouterr().err.split())
    assert "WARNING: no document is about an item, so dataset.documents has no effect; are its ids" in output
