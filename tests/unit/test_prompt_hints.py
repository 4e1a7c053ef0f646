import pytest

from reversion_core.prompts.hints import hint


@pytest.mark.parametrize(
    "text", ["", "  ", "cat <R> stone", "(cat <R>:1.2) stone", "<lora:x:1> cat <R> stone", "a < b and <R>"]
)
def test_a_prompt_with_the_placeholder_needs_no_hint(text):
    assert hint(text, ["<R>"]) == ""


@pytest.mark.parametrize("wrong", ["<r>", "＜R＞", "&lt;R&gt;", "< R >", "<Ｒ>", "\\<R\\>"])
def test_a_near_miss_is_said_with_what_was_meant(wrong):
    found = hint(f"cat {wrong} stone", ["<R>", "<S>"])
    assert found == f"{wrong} is read as letters: this CLIP knows <R> and <S>; write <R>."


@pytest.mark.parametrize("wrong", ["<RR>", "<T>", "<relation>"])
def test_another_placeholder_is_said(wrong):
    assert hint(f"cat {wrong} <R>", ["<R>"]) == f"{wrong} is read as letters: this CLIP knows <R>."


@pytest.mark.parametrize(
    ("text", "said"), [("cat on stone", "There is no <R> in this prompt"), ("cat R stone", "only the letter R")]
)
def test_a_prompt_without_it_is_said(text, said):
    assert said in hint(text, ["<R>"])


def test_without_a_relation_there_is_nothing_to_say():
    assert hint("cat <r> stone", []) == ""
