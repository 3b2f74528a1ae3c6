"""Names that columns, events and files have in shops, by language.

English, Chinese, German, Japanese, Spanish and French; the commonest in Italian, Portuguese, Dutch, Czech, Polish,
Russian and Korean.
"""

from llmrec_cli.ingest.readers.totals import normalized

_COLUMNS = {
    "user_id": "user user_id uid userid customer customer_id client client_id member member_id visitor visitor_id "
               "visitorid account account_id buyer buyer_id reviewer reviewerid shopper person_id profile_id "
               "customer_number 用户 用户id 用户编号 用户名 会员 会员id 会员编号 会员号 客户 客户id 客户编号 买家 "
               "买家id 顾客 顾客id 读者 kunde kunden kunde_id kunden_id kundennr kundennummer kunden_nr benutzer "
               "benutzer_id nutzer nutzer_id käufer ユーザー ユーザーid ユーザid 顧客 顧客id 顧客番号 会員 会員id "
               "会員番号 お客様番号 利用者 usuario id_usuario usuario_id cliente id_cliente cliente_id comprador "
               "utilisateur id_utilisateur client_no id_client numero_client numéro_client acheteur utente id_utente "
               "codice_cliente klant klantnummer klant_id gebruiker zákazník zakaznik id_zákazníka číslo_zákazníka "
               "klient id_klienta nr_klienta użytkownik клиент id_клиента код_клиента пользователь покупатель 고객 "
               "고객번호 회원 회원번호 사용자 设备 设备id 设备号 openid",
    "item_id": "item item_id itemid iid sku product product_id productid prod_id asin parent_asin isbn article "
               "article_id movie_id movieid book_id bookid track_id song_id artist_id news_id video_id offer_id "
               "variant_id content_id listing_id product_code item_code product_number 商品 商品id 商品编号 商品编码 "
               "商品号 产品 产品id 产品编号 货号 物品 物品id 书号 图书编号 影片编号 artikel artikel_id artikelnr "
               "artikel_nr artikelnummer produkt produkt_id produktnr produktnummer 商品番号 商品コード 品番 "
               "アイテム アイテムid 製品番号 producto id_producto producto_id articulo artículo id_articulo "
               "código_producto codigo_producto produit id_produit produit_id référence reference code_article "
               "code_produit prodotto id_prodotto codice_prodotto articolo codice_articolo produto id_produto "
               "código_produto codigo_produto artikelcode zboží zbozi kód_zboží kod_zbozi číslo_zboží produkt_id "
               "towar kod_towaru id_produktu товар код_товара id_товара артикул 상품 상품번호 상품코드 新闻 新闻id "
               "新闻编号 文章 文章id 文章编号 视频 视频id 视频编号 内容 内容id 内容编号 帖子 帖子id",
    "timestamp": "timestamp time ts date datetime created created_at event_time event_timestamp order_date "
                 "ordered_at purchase_date purchased_at visited_at occurred_at unixreviewtime rated_at viewed_at "
                 "时间 日期 时间戳 下单时间 行为时间 购买时间 订单时间 创建时间 浏览时间 评价时间 zeit datum "
                 "zeitpunkt zeitstempel bestelldatum kaufdatum bestellzeit 日時 日付 時間 時刻 購入日 購入日時 "
                 "注文日 注文日時 fecha hora fecha_compra fecha_pedido heure horodatage date_achat date_commande "
                 "date_heure data data_ordine data_acquisto data_pedido data_compra besteldatum čas cas data_zakupu "
                 "дата время дата_заказа 날짜 일시 주문일",
    "rating": "rating score stars overall review_score star_rating 评分 得分 分数 星级 打分 bewertung sterne wertung "
              "評価 点数 星 レーティング valoración valoracion puntuación puntuacion calificación note notation "
              "évaluation",
    "quantity": "value quantity qty amount count num units times plays playcount weight 数量 次数 件数 购买数量 "
                "menge anzahl stück stueck stückzahl 個数 回数 cantidad unidades quantité quantite nombre quantità "
                "quantidade aantal ks kusů množství ilość количество 수량",
    "event": "event event_type eventtype event_name action action_type behavior behaviour behavior_type activity "
             "interaction interaction_type type 行为 行为类型 事件 事件类型 操作 动作 ereignis aktion vorgang "
             "aktivität ereignistyp イベント 行動 行動種別 アクション 操作種別 evento acción accion tipo_evento "
             "événement evenement tipo_movimento movimento operazione typ_pohybu pohyb událost zdarzenie "
             "событие операция тип_операции 이벤트",
    "title": "title name item_name product_name product_title item_title movie_title book_title book_title headline "
             "标题 名称 商品名称 商品名 商品标题 产品名称 书名 片名 电影名 titel bezeichnung artikelbezeichnung "
             "produktname artikelname produktbezeichnung タイトル 名前 品名 製品名 título titulo nombre "
             "nombre_producto titre nom libellé libelle désignation designation nome descrizione "
             "naam omschrijving název nazev název_zboží nazwa nazwa_towaru название наименование 상품명",
    "group_id": "group group_id groupid household household_id family family_id team team_id party party_id 群组 "
                "群组id 小组 团队 家庭 家庭编号 gruppe gruppen_id haushalt haushalt_id グループ グループid 世帯 "
                "grupo id_grupo hogar groupe id_groupe foyer famille"}
_EVENTS = (
    (-5.0, "return refund returned refunded cancel_order 退货 退款 retoure rückgabe 返品 devolución devolucion "
           "reembolso retour remboursement reso rimborso devolução vratka vratky vráceno zwrot возврат 반품 환불 "
           "dislike disliked not_interested hide hidden 不感兴趣 不喜欢 踩 点踩 屏蔽 举报"),
    (0.0, "remove remove_from_cart removefromcart 移除 移出购物车 entfernt カート削除 quitar supprimé"),
    (5.0, "buy purchase purchased order ordered transaction checkout payment sale bought conversion 购买 下单 支付 "
          "付款 成交 订单 kauf gekauft kaufen bestellung bestellt 購入 注文 compra comprar pedido achat achete "
          "acheté commande vendita acquisto venda verkoop aankoop prodej nákup objednávka sprzedaż zakup покупка "
          "продажа заказ 구매 주문"),
    (3.0, "cart addtocart add_to_cart basket add_to_basket atc 加购 加购物车 加入购物车 购物车 warenkorb "
          "in_den_warenkorb カート カート追加 carrito añadir_al_carrito panier ajout_panier"),
    (2.0, "like liked favorite favourite fav wishlist save bookmark share 收藏 喜欢 点赞 分享 关注 merken merkliste "
          "wunschliste favorit お気に入り いいね favorito me_gusta favori"),
    (1.0, "view viewed pageview page_view pv click clicked detail open visit play watch search impression 浏览 点击 "
          "查看 访问 播放 ansicht ansehen angesehen klick aufruf 閲覧 クリック 表示 再生 ver vista visto clic vue "
          "consultation read reading 阅读 观看 zobrazení просмотр 조회 클릭"))
"""Weight of an event, and its names."""
_KEYS_OF_IDS = ("id", "number", "no", "code", "uuid", "device", "编号", "设备", "设备号")
"""Keys that have the id in an object of a user, an item or a group."""


def _table(names: dict[str, str]) -> dict[str, str]:
    return {normalized(name): ours for ours, listed in names.items() for name in listed.split()}


_OURS = _table(_COLUMNS)
_WEIGHTS = {normalized(name): weight for weight, listed in _EVENTS for name in listed.split()}


def meaning_of(name: str) -> str:
    """Return our column for the name of a column, "" if it says nothing.

    user_id | item_id | timestamp | rating | quantity | event | title | group_id. Of a path the last key counts, with
    the keys before it: user.id, items[].product.sku.
    """
    steps = [step.removesuffix("[]") for step in name.split(".")]
    for start in range(len(steps)):
        found = _OURS.get(normalized("".join(steps[start:])))
        if found:
            return found
    # Of an object user the key id or number is the id: customer.number.
    if len(steps) > 1 and normalized(steps[-1]) in _KEYS_OF_IDS:
        found = _OURS.get(normalized(steps[-2].removesuffix("s")), "")
        return found if found in ("user_id", "item_id", "group_id") else ""
    return ""


def event_weight(event: str) -> float | None:
    """Return the usual weight of an event, None if its name says nothing."""
    return _WEIGHTS.get(normalized(event))
