"""Small word lists for disturbing texts: what is mistaken for each other, and what means the same.

They are no dictionaries: a few dozen common words of titles and products, written for this project. What share of the
texts they change is reported with every result; `robustness.synonym_file` brings better ones.
"""

LOOK_OR_SOUND_ALIKE = (
    "己已", "未末", "土士", "日曰", "天夫", "大太", "人入", "的得地", "在再", "做作", "那哪", "他她它", "象像",
    "坐座", "带戴", "气汽", "元园圆", "原源", "候侯", "拔拨", "密蜜", "晴睛情清", "侍待", "折拆", "景影",
    "海悔", "历厉", "形型", "辨辩", "买卖", "木本", "王玉", "白自", "牛午", "干千", "刀力", "贝见", "风凤",
    "鸟乌", "兔免", "今令", "间问", "休体", "住往", "心必", "水永", "万方", "目且", "古占", "右石", "主住",
    "名明", "星新", "城成", "红虹", "花化", "山三", "爱哀", "国囯", "家稼", "机几", "电店", "影映", "战站",
    "梦蒙", "龙笼", "行形", "游由", "酒久", "美每", "馆管", "湖胡", "寺诗")
"""Groups of Chinese characters that are mistaken for each other, by their looks or in typing by their sound."""

SYNONYMS = (
    ("movie", "film"), ("story", "tale"), ("big", "large"), ("small", "little"), ("fast", "quick"),
    ("begin", "start"), ("end", "finish"), ("scary", "frightening"), ("funny", "humorous"), ("comedy", "humour"),
    ("horror", "fright"), ("romance", "love story"), ("thriller", "suspense"), ("crime", "felony"),
    ("war", "battle"), ("kids", "children"), ("children's", "kids'"), ("adventure", "quest"),
    ("animation", "cartoon"), ("sci-fi", "science fiction"), ("drama", "play"), ("mystery", "enigma"),
    ("fantasy", "fairy tale"), ("documentary", "factual film"), ("home", "house"), ("road", "street"),
    ("street", "avenue"), ("dead", "deceased"), ("man", "fellow"), ("woman", "lady"), ("boy", "lad"),
    ("girl", "lass"), ("friend", "pal"), ("doctor", "physician"), ("king", "monarch"), ("night", "evening"),
    ("star", "celebrity"), ("city", "town"), ("world", "globe"), ("car", "automobile"), ("ship", "vessel"),
    ("picture", "image"), ("photo", "photograph"), ("pen", "ballpoint"), ("pens", "ballpoints"),
    ("marker", "felt-tip"), ("markers", "felt-tips"), ("paper", "sheets"), ("notebook", "notepad"),
    ("tape", "sticky tape"), ("label", "sticker"), ("labels", "stickers"), ("folder", "file"),
    ("folders", "files"), ("envelope", "mailer"), ("envelopes", "mailers"), ("printer", "printing machine"),
    ("cartridge", "refill"), ("scissors", "shears"), ("phone", "telephone"), ("calculator", "adding machine"),
    ("chair", "seat"), ("desk", "table"), ("box", "carton"), ("pack", "package"), ("set", "kit"),
    ("black", "ebony"), ("white", "ivory"), ("red", "scarlet"), ("assorted", "various"), ("heavy", "weighty"),
    ("clear", "transparent"), ("portable", "mobile"), ("wireless", "cordless"), ("office", "workplace"),
    ("school", "classroom"), ("inch", "in."), ("count", "pieces"), ("电影", "影片"), ("爱情", "恋爱"),
    ("战争", "战役"), ("故事", "传说"), ("城市", "都市"), ("酒店", "宾馆", "旅馆"), ("饭店", "餐厅", "餐馆"),
    ("公园", "园林"), ("旅游", "旅行"), ("景区", "景点"), ("古镇", "老镇"), ("海滩", "沙滩"), ("商场", "购物中心"),
    ("博物馆", "博物院"), ("寺庙", "寺院"), ("大学", "高校"), ("机场", "航空港"), ("火车站", "车站"),
    ("医生", "大夫"), ("孩子", "小孩"), ("朋友", "友人"), ("手机", "移动电话"), ("电脑", "计算机"),
    ("喜剧", "笑剧"), ("恐怖", "惊悚"), ("科幻", "科学幻想"), ("冒险", "探险"), ("动画", "卡通"), ("漂亮", "美丽"))
"""Groups of words, the same in meaning or nearly so."""
