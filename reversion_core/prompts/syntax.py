"""The notations that programs read in prompts: found in captions, where they are only letters; taken out for scores."""

import re
import unicodedata

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_CONTINUATION = "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122"

# Kind -> how it is found, in linear time. Captions are encoded without any of them.
SYNTAX = {
    "weight": re.compile(
        rf"\([^()]*:\s*{_NUMBER}\s*\)|\({{2,}}[^()]*\)+|\[[^\[\]]*\]|[\w)](?:\+{{2,}}|-{{2,}})(?![\w-])|\)[+-](?!\w)",
        re.I,
    ),
    "extra network": re.compile(r"<[^<>|:]{1,40}:[^<>]*>"),
    "wildcard": re.compile(r"__[\w/*.-]+?__|\{[^{}|]*\|[^{}]*\}|<[^<>|]*\|[^<>]*>|\$\$"),
    "brace": re.compile(r"\{(?![}|])[^{}|]*|(?<!\{)\}"),
    "keyword": re.compile(r"\b(?:BREAK|AND|ADDCOMM|ADDBASE|ADDCOL|ADDROW)\b"),
    "option": re.compile(r"(?<![\w-])--[a-z]\w*(?:\s+[\d:.]+)?", re.IGNORECASE),
    "embedding": re.compile(r"\bembedding:[^\s,]*", re.IGNORECASE),
    "escape": re.compile(r"\\[()]"),
    "entity of HTML": re.compile(r"&(?:[a-z]{2,8}|#\d{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE),
    "placeholder": re.compile(r"<[\w-]{1,40}>"),
    "list mark": re.compile(r"^\s*(?:\d{1,3}\s*[.):\u3001]|[-*\u2022\u00b7])\s+"),
    "quotes": re.compile(r"^\s*[\"'\u201c\u2018\u300c\u300e\u00ab].*[\"'\u201d\u2019\u300d\u300f\u00bb]\s*$"),
    "file name": re.compile(r"(?<![\w-])[\w-]{1,80}\.(?:png|jpe?g|webp|gif|bmp|tiff?|avif|heic)\b", re.IGNORECASE),
    "lost character": re.compile("\ufffd"),
    "wrong encoding": re.compile(
        f"[\u00c2\u00c3\u00ce\u00cf\u00d0\u00d1][{_CONTINUATION}]|[\u00e0-\u00ef][{_CONTINUATION}]{{2}}"
    ),
}
_WEIGHT = re.compile(rf":\s*{_NUMBER}\s*\)", re.IGNORECASE)
_NO_WORDS = ("extra network", "keyword", "embedding")
_PARENTHESIS = re.compile(r"(?<!\\)[()]")


def found(text):
    """Kind -> the first piece of the text that is of this kind, full-width signs taken for the plain ones."""
    plain_signs = unicodedata.normalize("NFKC", text)
    matches = ((kind, pattern.search(text) or pattern.search(plain_signs)) for kind, pattern in SYNTAX.items())
    pieces = {kind: match[0] for kind, match in matches if match}
    if "wildcard" in pieces:
        pieces.pop("brace", None)  # likely its own
    return pieces


def plain(prompt):
    """The words of a prompt: (cat:1.3) is cat; LoRA tags, BREAK and embedding:NAME are gone."""
    text = prompt
    for kind in _NO_WORDS:
        text = SYNTAX[kind].sub(" ", text)
    text = _PARENTHESIS.sub("", _WEIGHT.sub(")", text))
    return " ".join(SYNTAX["escape"].sub(lambda match: match[0][1], text).split())
