"""The notations that programs read in prompts: found in captions, where they are only letters; taken out for scores."""

import re

# Kind -> how it is found, in linear time. Captions are encoded without any of them.
SYNTAX = {
    "weight": re.compile(r"\([^()]*:[\d.]+\s*\)|\({2,}[^()]*\)+|\[[^\[\]]*\]"),
    "extra network": re.compile(r"<(?:lora|lyco|hypernet|wlr)\s*:[^<>]*>", re.IGNORECASE),
    "wildcard": re.compile(r"__[\w/*.-]+?__|\{[^{}|]*\|[^{}]*\}"),
    "keyword": re.compile(r"\b(?:BREAK|AND|ADDCOMM|ADDBASE|ADDCOL|ADDROW)\b"),
    "embedding": re.compile(r"\bembedding:[^\s,]*", re.IGNORECASE),
    "escape": re.compile(r"\\[()]"),
    "entity of HTML": re.compile(r"&(?:lt|gt|amp|quot|nbsp|#\d+);", re.IGNORECASE),
    "placeholder": re.compile(r"<[\w-]{1,40}>"),
}
_WEIGHT = re.compile(r":\s*[\d.]+\s*\)")
_PARENTHESIS = re.compile(r"(?<!\\)[()]")


def found(text):
    """Kind -> the first piece of the text that is of this kind."""
    matches = ((kind, pattern.search(text)) for kind, pattern in SYNTAX.items())
    return {kind: match[0] for kind, match in matches if match}


def plain(prompt):
    """The words of a prompt: (cat:1.3) is cat, LoRA tags are gone."""
    text = SYNTAX["extra network"].sub(" ", prompt)
    text = _PARENTHESIS.sub("", _WEIGHT.sub(")", text))
    return " ".join(SYNTAX["escape"].sub(lambda match: match[0][1], text).split())
