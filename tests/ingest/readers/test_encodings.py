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


NEW = [("gb18030", "订单号,会员,货品,数量\n1001,张伟,不锈钢保温杯 500毫升,2\n1002,李娜,纯棉床上四件套,1\n"),
         ("gb18030", "书名,作者\n围城,钱钟书\n骆驼祥子,老舍\n"),
         ("gb18030", "标题,分类\n今日股市收盘上涨,财经\n国足备战世预赛,体育\n"),
         ("big5", "書名,作者\n台北人,白先勇\n城南舊事,林海音\n千江有水千江月,蕭麗紅\n"),
         ("shift_jis", "注文番号,商品名\n1,炊飯器 5.5合\n2,折りたたみ傘\n3,羽毛布団カバー\n"),
         ("euc-jp", "書名\n吾輩は猫である\n雪国\nノルウェイの森\n"),
         ("euc-kr", "주문,상품\n1,스테인리스 텀블러\n2,겨울 패딩 점퍼\n"),
         ("windows-1252", "Kunde;Straße\n7;Königsallee\n8;Münchner Platz\n"),
         ("windows-1252", "client;produit\n4;Fenêtre à rénover\n5;Théière émaillée\n"),
         ("windows-1252", "cliente;artículo\n2;Cinturón de piel\n3;Paño de cocina\n"),
         ("windows-1252", "kund;vara\n1;Köksstol i björk\n2;Ostkärl\n"),
         ("windows-1252", "cliente;produto\n1;Calção de verão\n2;Pão de açúcar\n"),
         ("windows-1250", "klient;towar\n1;Lampka nocna żółta\n2;Piłka nożna\n3;Książka dla dzieci\n"),
         ("windows-1250", "zákazník;zboží\n1;Hračka pro kočky\n2;Ručník modrý\n"),
         ("windows-1251", "Клиент;Книга\n1;Война и мир\n2;Мастер и Маргарита\n"),
         ("windows-1254", "müşteri;ürün\n1;Yağmurluk\n2;Kış ayakkabısı\n"),
         ("windows-1253", "πελάτης;είδος\n1;Λάμπα γραφείου\n2;Βιβλίο\n"),
         ("windows-1252", "id;name\n1;Müller\n"),
         ("windows-1252", "a;b\n1;naïve café\n")]
"""Texts that were written after the detection, which was adjusted to those above."""


def test_texts_that_the_detection_was_not_adjusted_to_are_read_right_or_are_uncertain() -> None:
    results = [detect_encoding(text.encode(encoding)) for encoding, text in NEW]
    assert all(found in ("", encoding) for (found, _), (encoding, _) in zip(results, NEW, strict=True))
    assert sum(found == "" for found, _ in results) <= 1


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
