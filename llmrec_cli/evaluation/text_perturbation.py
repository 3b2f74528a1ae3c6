"""Perturbations of texts: typos, synonyms and truncation. A text and a seed always give the same result.

The word lists are small: a few dozen common words of titles and products, written for this project. Every result
reports the share of the texts that changed; set `robustness.synonym_file` to use a better list.

A unit is a letter with its combining marks. Words are runs of letters in scripts that separate words; Chinese is
perturbed character by character.
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
"""Groups of Chinese characters that look or sound alike and are confused in typing."""

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
"""Groups of synonyms or near-synonyms."""


Perturbation = Callable[[str, np.random.Generator], str]
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\s\u3400-\u9fff\uf900-\ufaff]+")
"""A Chinese character, or a run of other characters between spaces."""
_SHORTEST = 3
"""Minimum number of letters of a word that gets a typo."""
_ALIKE = {one: [other for other in group if other != one] for group in LOOK_OR_SOUND_ALIKE for one in group}


def perturb_texts(texts: Sequence[str] | np.ndarray, perturb: Perturbation, seed: int) -> np.ndarray:
    """Return the perturbed texts, object array; the result depends only on the text and the seed."""
    result = np.empty(len(texts), object)
    for n, text in enumerate(map(str, texts)):
        own = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        result[n] = perturb(text, np.random.default_rng([seed, own]))
    return result


def typos(share: float) -> Perturbation:
    """Return a perturbation that puts a typo into this share of the words, or Chinese characters."""

    def perturb(text: str, generator: np.random.Generator) -> str:
        parts = []
        for run in _runs(_units(text)):
            if _is_chinese(run[0]):
                parts += [_mistaken(unit, generator) if generator.random() < share else unit for unit in run]
            elif len(run) >= _SHORTEST and run[0][0].isalpha() and generator.random() < share:
                parts += _mistyped(run, generator)
            else:
                parts += run
        return "".join(parts)

    return perturb


def synonyms(share: float, groups: Sequence[Sequence[str]] = SYNONYMS) -> Perturbation:
    """Return a perturbation that replaces this share of the words in `groups` by another word of their group."""
    others: dict[str, list[str]] = {}
    for group in groups:
        for word in group:
            others.setdefault(word.lower(), []).extend(other for other in group if other != word)
    # Longest first, so that a word does not match as the beginning of another; whole words only, except in Chinese.
    words = sorted(others, key=lambda word: (-len(word), word))
    either = (re.escape(w) if _is_chinese(w[0]) else rf"(?<!\w){re.escape(w)}(?!\w)" for w in words)
    pattern = re.compile("|".join(either), re.IGNORECASE)

    def perturb(text: str, generator: np.random.Generator) -> str:
        def other(match: re.Match[str]) -> str:
            alternatives = others.get(match[0].lower(), [])
            if not alternatives or generator.random() >= share:
                return match[0]
            replacement = alternatives[generator.integers(len(alternatives))]
            return replacement[:1].upper() + replacement[1:] if match[0][:1].isupper() else replacement

        return pattern.sub(other, text)

    return perturb


def truncation(share: float) -> Perturbation:
    """Return a perturbation that removes this share of the words, or Chinese characters, at the end of a text."""

    def perturb(text: str, generator: np.random.Generator) -> str:
        ends = [match.end() for match in _WORD.finditer(text)]
        num_words = max(1, round(len(ends) * (1 - share)))
        return text[:ends[num_words - 1]] if len(ends) > 1 else text

    return perturb


def _units(text: str) -> list[str]:
    units: list[str] = []
    for letter in text:
        if units and (unicodedata.combining(letter) or unicodedata.category(letter) in ("Mc", "Me", "Mn", "Cf")):
            units[-1] += letter
        else:
            units.append(letter)
    return units


def _runs(units: Sequence[str]) -> list[list[str]]:
    """Split the units into runs: words, Chinese characters, and other characters."""
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
