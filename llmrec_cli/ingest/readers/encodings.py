"""Detection of the encoding of text that is not UTF-8, by the letters that each candidate gives.

A candidate is scored by the share of letters that are usual in its languages: common Chinese characters, kana, Hangul,
accented letters inside Latin words, words of one script. Text in a wrong encoding has rare characters, symbols inside
words, or capitals after small letters. Close scores are not guessed.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

_ENOUGH, _MARGIN = 0.6, 0.06
"""Least score of the detected encoding, and its least distance to a candidate that reads other characters."""
_MOST_CHARACTERS = 6000
_COMMON_HAN = set(
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得"
    "经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义"
    "事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提"
    "直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放"
    "決這個國時們說產種對後會發學經進著電裡機實體點從業開還應關與間樣線數質氣變條結問設長將組見計別書機車專業鞋衣服男女童裝手機"
    "装鞋服男女童包表书手机电脑耳充线器家居厨房美妆食品零酒茶水果牛奶运动户外旅行玩具宠物汽车配件商品名称编号用户时间行为类目价格")
_COMMON_HANGUL = set("이다는의에을를가은하고지한로기도아사리나해서스인시어라대자정그과수들있"
                     "만전으일여상부제보구장원주성용공신비조미니트드디선마무관계세동개요오우안작문교적진방소모화생실물경등")


def candidates_of(content: bytes) -> list[tuple[str, float, str]]:
    """Return the encodings that can decode `content`, as (name, score 0 to 1, text), best first."""
    found: list[tuple[str, float, str]] = []
    for candidate in _CANDIDATES:
        if candidate.name == "latin-1" and any(name == "windows-1252" for name, _, _ in found):
            continue  # The same letters; only windows-1252 has printable characters from 0x80 to 0x9f.
        try:
            text = content.decode(candidate.codec)
        except UnicodeDecodeError:
            continue
        sample = text[:_MOST_CHARACTERS]
        weights = list(candidate.weights(sample))
        if weights:
            found.append((candidate.name, sum(weights) / len(weights) * candidate.prior, sample))
    return sorted(found, key=lambda one: -one[1])


def detect_encoding(content: bytes) -> tuple[str, list[str]]:
    """Return the encoding of `content`, "" if it is uncertain, and then the likeliest candidates.

    `content` ends with a whole line. Mostly valid UTF-8 counts as UTF-8: its damage is reported where it is read.
    """
    try:
        content.decode("utf-8")
        return "utf-8", []
    except UnicodeDecodeError:
        pass
    ignored = content.decode("utf-8", "ignore")
    num_sequences = sum(character > "\x7f" for character in ignored)
    num_bad = content.decode("utf-8", "replace").count("\ufffd") - ignored.count("\ufffd")
    if num_sequences > 2 * num_bad:
        return "utf-8", []
    # Only lines with such bytes are evidence, and decoding the others would cost time.
    lines = b"\n".join(line for line in content.split(b"\n") if not line.isascii())
    found = candidates_of(lines)
    if not found:
        return "", ["latin-1"]
    name, score, text = found[0]
    rivals = [other for other, value, read in found[1:] if read != text and value > score - _MARGIN]
    if score >= _ENOUGH and not rivals:
        return name, []
    return "", [name, *(other for other, value, read in found[1:] if read != text and value > 0.2)][:4]


@dataclass(frozen=True)
class _Candidate:
    """An encoding, and the function that weighs the characters outside ASCII from 0 (impossible) to 1 (usual)."""

    name: str
    codec: str
    weights: Callable[[str], Iterator[float]]
    prior: float = 1.0


def _han(codec: str, first: int, last: int) -> Callable[[str], Iterator[float]]:
    """Weigh Chinese characters by the lead byte in their national standard: its first level is ordered by frequency."""
    def weights(text: str) -> Iterator[float]:
        for character in text:
            if character <= "\x7f":
                continue
            if character in _COMMON_HAN:
                yield 1.2
            elif "\u4e00" <= character <= "\u9fff":
                lead = _lead(character, codec)
                yield 0.75 if first <= lead <= last else 0.2
            elif character in "，。、；：？！“”‘’（）《》【】—…·￥　～％＋－／":
                yield 0.9
            elif "\uff10" <= character <= "\uff5a":
                yield 0.7
            else:
                yield 0.0
    return weights


def _lead(character: str, codec: str) -> int:
    try:
        return character.encode(codec)[0]
    except UnicodeEncodeError:
        return 0


def _japanese(text: str) -> Iterator[float]:
    for character in text:
        if "\u3041" <= character <= "\u30fe":
            yield 1.1
        elif "\u4e00" <= character <= "\u9fff":
            yield 0.8 if 0x88 <= _lead(character, "cp932") <= 0x97 else 0.2
        elif character in "、。・「」『』（）！？ー～　￥":
            yield 0.9
        elif character > "\x7f":
            yield 0.1


def _korean(text: str) -> Iterator[float]:
    for character in text:
        if "\uac00" <= character <= "\ud7a3":
            yield 1.2 if character in _COMMON_HANGUL else 0.75
        elif character > "\x7f":
            yield 0.1


def _latin(*alphabets: str) -> Callable[[str], Iterator[float]]:
    """Weigh accented letters inside Latin words by the best fitting of the `alphabets`, one for each language."""
    own = [set(alphabet + alphabet.upper()) for alphabet in alphabets]
    usual = set().union(*own)

    def weights(text: str) -> Iterator[float]:
        found = [(character, weight) for match in _WORDS.finditer(text) for character, weight in _in_latin(match[0])]
        fitting = max(own, key=lambda letters: sum(character in letters for character, _ in found))
        for character, weight in found:
            if not character.isalpha():
                yield 0.7 if character in _SYMBOLS else 0.1
            else:
                yield weight * (1.0 if character in fitting else 0.5 if character in usual else 0.2)
    return weights


def _in_latin(word: str) -> Iterator[tuple[str, float]]:
    """Yield the characters of a word outside ASCII, and how natural their places are, 0 to 1."""
    accents = re.findall(r"[^\x00-\x7f]+", word)
    if not accents:
        return
    is_word = sum(map(len, accents)) < len(word) and max(map(len, accents)) <= 3
    mixed = any(a.islower() and b.isupper() for a, b in pairwise(word))
    weight = (0.5 if mixed else 1.0) if is_word else 0.4 if len(word) == 1 else 0.1
    yield from ((character, weight) for part in accents for character in part)


def _script(first: str, last: str, frequent: str, more: str = "") -> Callable[[str], Iterator[float]]:
    """Weigh the letters of a script, from `first` to `last` and `more`, in words of this script and in natural case.
    """
    letters = {chr(code) for code in range(ord(first), ord(last) + 1)} | set(more)
    letters |= set("".join(letters).upper())

    def weights(text: str) -> Iterator[float]:
        for match in _WORDS.finditer(text):
            word = match[0]
            others = [character for character in word if character > "\x7f" and character not in letters]
            is_pure = all(character in letters for character in word)
            is_small = word[1:] == word[1:].lower()
            natural = 1.0 if is_small and len(word) > 1 else 0.75 if word.isupper() and len(word) > 1 else 0.35
            for character in word:
                if character in letters:
                    yield natural * (1.1 if character.lower() in frequent else 0.7) if is_pure else 0.1
            yield from (0.7 if character in _SYMBOLS else 0.0 for character in others)
    return weights


_WORDS = re.compile(r"[^\W\d_]+|[^\x00-\x7f]")
_SYMBOLS = "€£©®™°²³½¼–—„“”‘’«»…·•§×№"
_WESTERN = ("äöüßé", "éèêëàâçîïôûùœæ", "ñáéíóúü", "ãõáéíóúâêôçà", "àèéìòù", "åäöæøé", "ëïéèöü")
_CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áéíóöőúüű", "ăâîșțşţ", "čćđšž", "áäčďéíĺľňóôŕšťúýž")
_CANDIDATES = (
    _Candidate("gb18030", "gb18030", _han("gb2312", 0xB0, 0xD7)),
    _Candidate("big5", "cp950", _han("big5", 0xA4, 0xC6)),
    _Candidate("shift_jis", "cp932", _japanese),
    _Candidate("euc-jp", "euc_jp", _japanese),
    _Candidate("euc-kr", "cp949", _korean),
    _Candidate("windows-1252", "cp1252", _latin(*_WESTERN)),
    _Candidate("windows-1250", "cp1250", _latin(*_CENTRAL), 0.99),
    _Candidate("windows-1254", "cp1254", _latin("çğıöşüİâî"), 0.98),
    _Candidate("windows-1251", "cp1251", _script("а", "я", "оеаинтсрвлк", "ёіїєґ")),
    _Candidate("koi8-r", "koi8_r", _script("а", "я", "оеаинтсрвлк", "ё"), 0.98),
    _Candidate("windows-1253", "cp1253", _script("α", "ω", "αοιετσνηυρ", "άέήίόύώϊϋΐΰ")),
    _Candidate("windows-1255", "cp1255", _script("א", "ת", "יוהלאמרתבש")),
    _Candidate("windows-1256", "cp1256", _script("ء", "ي", "اليمنوترهب", "پچژگک")),
    _Candidate("latin-1", "latin-1", _latin(*_WESTERN), 0.97))
"""Encodings that are detected; the codec may be the variant of Windows, which has more characters."""
