"""The encoding of text that is not UTF-8 is detected by its letters, or named as uncertain."""

import pytest

from llmrec_cli.ingest.readers.encodings import detect_encoding

TEXTS = {
    "gb18030": ["用户编号,商品编号,商品名称,价格\nu1,p1,华为手机壳 防摔,39.9\nu2,p2,儿童运动鞋 春季新款,129\n",
                "类目,名称\n手机,华为\n",
                "标题\n三体：地球往事\n活着\n百年孤独\n平凡的世界\n红楼梦\n"],
    "big5": ["商品編號,名稱\n1,無線藍牙耳機\n2,兒童運動鞋 春季新款\n3,高山烏龍茶葉禮盒\n"],
    "shift_jis": ["商品番号,商品名\n1,ワイヤレスイヤホン\n2,子供用スニーカー\n3,抹茶チョコレート 20個入り\n"],
    "euc-jp": ["商品番号,商品名\n1,ワイヤレスイヤホン\n2,子供用スニーカー\n3,抹茶チョコレート 20個入り\n"],
    "euc-kr": ["상품번호,상품명\n1,무선 블루투스 이어폰\n2,어린이 운동화\n3,제주 감귤 초콜릿\n"],
    "windows-1252": ["Artikelnr;Bezeichnung;Größe\n1;Männer Schuh für Läufer;42\n", "Nr;Titel\n1;Die Mörder\n",
                     "Nr;Preis\n1;5 €\n2;Größe\n", "id;titre\n1;L’été à la plage, crème brûlée\n",
                     "id;título\n1;Niño pequeño\n2;Camión rápido\n", "user_id,item_id\nu,Café\n"],
    "windows-1250": ["id;nazwa\n1;Żółta koszulka męska\n2;Buty dziecięce świąteczne\n",
                     "id;název\n1;Dětské boty červené\n2;Příruční svítilna žlutá\n"],
    "windows-1251": ["Товар;Цена\nКрасная рубашка;5\nДетские кроссовки;7\nБеспроводные наушники;9\n"],
    "koi8-r": ["Товар;Цена\nКрасная рубашка;5\nДетские кроссовки;7\n"],
    "windows-1253": ["id;όνομα\n1;Κόκκινο πουκάμισο\n2;Παιδικά παπούτσια\n"],
    "windows-1254": ["id;ad\n1;Çocuk ayakkabısı\n2;Kırmızı gömlek, büyük\n3;Şişe kapağı\n"],
    "windows-1255": ["id;שם\n1;חולצה אדומה\n2;נעלי ילדים\n"],
    "windows-1256": ["id;اسم\n1;قميص أحمر\n2;حذاء أطفال\n"],
    "utf-8": ["a,ü,五台山\n", "plain\n"]}


@pytest.mark.parametrize(("encoding", "text"), [(encoding, text) for encoding, texts in TEXTS.items()
                                                for text in texts])
def test_the_encoding_of_a_few_lines_is_detected(encoding: str, text: str) -> None:
    assert detect_encoding(text.encode(encoding)) == (encoding, [])


def test_a_letter_without_a_word_is_no_evidence_and_the_candidates_are_named() -> None:
    encoding, candidates = detect_encoding(b"user_id,item_id\nu,\xe9\n")
    assert encoding == ""
    assert candidates[0] == "windows-1252"
    assert len(candidates) == 4


def test_damaged_utf_8_stays_utf_8() -> None:
    assert detect_encoding("Größe, für, süß\n".encode() + b"Caf\xe9\n") == ("utf-8", [])
