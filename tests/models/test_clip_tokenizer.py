"""CLIP's tokens without open_clip: the same numbers as open_clip's, and what is kept of them on disk."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.models.encoders.clip_tokenizer import ClipTokenizer, load_tokenizer

open_clip = pytest.importorskip("open_clip")

TEXTS = [
    "a photo of a cat",
    "Scratched BOLT in low light, 3.5mm!!",
    "it's we're I'm they've you'll she'd don't 'tis 'sand rock'n'roll ''s !'s 's",
    "schräge Kante & Straße naïve Ärger İstanbul",
    "汽车在街上 日本語のテキスト 한국어",
    "½ Ⅷ ① 42 x² №7 ٣",
    "emoji 🚗💨 e\u0301 cafe\u0301",
    "AT&amp;T &amp;lt;tag&amp;gt;",
    "  tabs\tand\nnew lines\u00a0 ",
    "ﬁne aﬄicted \ufb05eﬆ ĳs ŉ ǅ",
    "ｱｶﾞﾊﾟ ｢ﾃｽﾄ｣ \uffda\uffdc \uffe5",
    "bell\x07 escape\x1b tab\x0b unit\x1f \ufefforder \u206a \ufffc \u2028line",
    "it\u02bcs",
    "\u201cquoted\u201d \u2018so\u2019 \uff46\uff55\uff4c\uff4c\u3000\uff57\uff49\uff44\uff54\uff48",
    "under_score-hyphen/slash\\back #tag @me",
    "antidisestablishmentarianism internationalization aaaaaaaaaaaaaaaa",
    "",
    "'",
    " ".join(["far too long for the context"] * 40),
]


@cache
def tokenizers(context_length: int = 77) -> tuple[ClipTokenizer, object]:
    from curate.models.encoders.clip import _own_tokenizer

    theirs = open_clip.SimpleTokenizer(context_length=context_length)
    return _own_tokenizer(theirs), theirs


@pytest.mark.parametrize("context_length", [77, 8])
def test_the_tokens_are_open_clip_s(context_length: int) -> None:
    own, theirs = tokenizers(context_length)
    tokens = own(TEXTS)
    assert tokens.dtype == np.int64
    for text, given_tokens, expected in zip(TEXTS, tokens, theirs(TEXTS).numpy(), strict=True):  # type: ignore[operator]
        np.testing.assert_array_equal(given_tokens, expected, err_msg=text)


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        st.characters(max_codepoint=0x24F) | st.sampled_from("'strevmld 0!\u4e00\u0431ﬁﬅｶﾞ\ufeff\u02bc"), max_size=40
    )
)
def test_the_tokens_of_any_text_are_open_clip_s(text: str) -> None:
    import ftfy

    # Texts in a wrong encoding and what colours a terminal are repaired by open_clip and left by us.
    assume(not re.search("[\x80-\x9f\x1b]", text))
    assume(all(ftfy.fix_encoding(form) == form for form in (text, ftfy.fixes.remove_control_chars(text))))
    own, theirs = tokenizers()
    np.testing.assert_array_equal(own([text]), theirs([text]).numpy())  # type: ignore[operator]


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    own, _ = tokenizers(16)
    own.save(tmp_path / "tokenizer.npz")
    assert (tmp_path / "tokenizer.npz").stat().st_size < 500_000
    read = load_tokenizer("tokenizer.npz", tmp_path)
    np.testing.assert_array_equal(read(TEXTS), own(TEXTS))
    assert read([]).shape == (0, 16)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", merges=np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    own, _ = tokenizers(16)
    own.save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    for size in (20, len(whole) // 2, len(whole) - 30):
        (tmp_path / f"{size}.npz").write_bytes(whole[:size])
    (tmp_path / "flipped.npz").write_bytes(whole[:9000] + bytes(1000) + whole[10_000:])
    np.savez(tmp_path / "single.npz", byte_tokens=np.arange(256), merges=np.zeros((1, 2), int), numbers=np.array(3))
    np.savez(tmp_path / "short.npz", byte_tokens=np.arange(9), merges=np.zeros((1, 2), int), numbers=np.arange(3))
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.arange(3))
    names = [path.name for path in tmp_path.glob("*.npz") if path.name != "whole.npz"]
    assert len(names) == 9
    for name in ("nothing.npz", *names):
        with pytest.raises(InputError, match="tokenizer cannot be read") as caught:
            load_tokenizer(name, tmp_path)
        assert caught.value.where == str(tmp_path / name)


def test_a_lone_half_of_a_character_does_no_harm() -> None:
    own, _ = tokenizers()
    assert own(["\ud800 cat"]).shape == (1, 77)
