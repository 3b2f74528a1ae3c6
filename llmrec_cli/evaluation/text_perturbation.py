"""Texts perturbed as people mistype, reword and shorten them; the same text always in the same way.

They are no dictionaries: a few dozen common words of titles and products, written for this project. What share of the
texts they change is reported with every result; `robustness.synonym_file` brings better ones.

A unit is a letter with the marks that belong to it. Words are runs of letters of scripts that put spaces or other signs
between words; Chinese, which does not, is disturbed character by character.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np

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


Disturb = Callable[[str, np.random.Generator], str]
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\s\u3400-\u9fff\uf900-\ufaff]+")
"""A Chinese character, or what stands between spaces."""
_SHORTEST = 3
"""Letters of a word that gets a typo, at least."""
_ALIKE = {one: [other for other in group if other != one] for group in LOOK_OR_SOUND_ALIKE for one in group}


def disturbed(texts: Sequence[str] | np.ndarray, disturb: Disturb, seed: int) -> np.ndarray:
    """Return the texts after `disturb`, object array; what happens to a text depends on it and the seed alone."""
    found = np.empty(len(texts), object)
    for n, text in enumerate(map(str, texts)):
        own = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        found[n] = disturb(text, np.random.default_rng([seed, own]))
    return found


def typos(share: float) -> Disturb:
    """Return a function that gives that share of the words, or Chinese characters, a typo."""

    def disturb(text: str, generator: np.random.Generator) -> str:
        parts = []
        for run in _runs(_units(text)):
            if _is_chinese(run[0]):
                parts += [_mistaken(unit, generator) if generator.random() < share else unit for unit in run]
            elif len(run) >= _SHORTEST and run[0][0].isalpha() and generator.random() < share:
                parts += _mistyped(run, generator)
            else:
                parts += run
        return "".join(parts)

    return disturb


def synonyms(share: float, groups: Sequence[Sequence[str]] = SYNONYMS) -> Disturb:
    """Return a function that replaces that share of the words that `groups` know by another of their group."""
    others: dict[str, list[str]] = {}
    for group in groups:
        for word in group:
            others.setdefault(word.lower(), []).extend(other for other in group if other != word)
    # The longest first, so that a word is not taken for its beginning; whole words only where words have an end.
    words = sorted(others, key=lambda word: (-len(word), word))
    either = (re.escape(w) if _is_chinese(w[0]) else rf"(?<!\w){re.escape(w)}(?!\w)" for w in words)
    pattern = re.compile("|".join(either), re.IGNORECASE)

    def disturb(text: str, generator: np.random.Generator) -> str:
        def other(found: re.Match[str]) -> str:
            known = others.get(found[0].lower(), [])
            if not known or generator.random() >= share:
                return found[0]
            chosen = known[generator.integers(len(known))]
            return chosen[:1].upper() + chosen[1:] if found[0][:1].isupper() else chosen

        return pattern.sub(other, text)

    return disturb


def truncated(share: float) -> Disturb:
    """Return a function that cuts that share of a text's words off its end; a Chinese character is a word."""

    def disturb(text: str, generator: np.random.Generator) -> str:
        ends = [found.end() for found in _WORD.finditer(text)]
        kept = max(1, round(len(ends) * (1 - share)))
        return text[:ends[kept - 1]] if len(ends) > 1 else text

    return disturb


def _units(text: str) -> list[str]:
    units: list[str] = []
    for letter in text:
        if units and (unicodedata.combining(letter) or unicodedata.category(letter) in ("Mc", "Me", "Mn", "Cf")):
            units[-1] += letter
        else:
            units.append(letter)
    return units


def _runs(units: Sequence[str]) -> list[list[str]]:
    """Return the units cut where a word, Chinese or anything else begins."""
    runs: list[list[str]] = []
    kind = None
    for unit in units:
        own = "chinese" if _is_chinese(unit) else unit[0].isalpha()
        if own != kind or not runs:
            runs.append([])
        runs[-1].append(unit)
        kind = own
    return runs


def _is_chinese(unit: str) -> bool:
    return "\u3400" <= unit[0] <= "\u9fff" or "\uf900" <= unit[0] <= "\ufaff"


def _mistaken(unit: str, generator: np.random.Generator) -> str:
    alike = _ALIKE.get(unit)
    return alike[generator.integers(len(alike))] if alike else ""


def _mistyped(word: list[str], generator: np.random.Generator) -> list[str]:
    """Return the word with two letters swapped, one dropped or one doubled; the first stays first."""
    place, how = int(generator.integers(1, len(word) - 1)), generator.integers(3)
    before, this, following, after = word[:place], word[place], word[place + 1], word[place + 2:]
    if how == 0:
        return [*before, following, this, *after]
    return [*before, following, *after] if how == 1 else [*before, this, this, following, *after]
