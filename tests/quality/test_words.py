"""Words of texts against plain Python: a regular expression and a loop over characters."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.quality.words import cap, read_words, word_value

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
WORDS = re.compile(rb"[A-Za-z0-9\x02\x80-\xff]+|[^A-Za-z0-9\x80-\xff\x00-\x20]+")
TEXTS = st.lists(st.text(alphabet="aB9 ,.\n$é日\u0000\x02", max_size=40), min_size=1, max_size=6)


def words_of(text: str) -> list[bytes]:
    return WORDS.findall(text.encode("utf-8", "surrogatepass"))


@EXAMPLES
@given(TEXTS)
def test_words_are_runs_of_letters_and_of_signs(texts: list[str]) -> None:
    (block,) = read_words(texts)
    data = block.data.tobytes()
    for i, text in enumerate(texts):
        places = range(block.first[i], block.first[i + 1])
        found = [data[block.start[w] : block.end[w]] for w in places]
        assert found == [b"\x02", *words_of(text)]


@EXAMPLES
@given(TEXTS)
def test_equal_words_have_equal_hashes_and_others_do_not(texts: list[str]) -> None:
    (block,) = read_words(texts)
    data = block.data.tobytes()
    words = [data[a:b] for a, b in zip(block.start, block.end, strict=True)]
    assert (
        len(set(words))
        == len(set(block.value.tolist()))
        == len(set(zip(words, block.value.tolist(), strict=True)))
    )


def test_a_hash_is_the_polynomial_of_the_bytes_modulo_two_to_the_64():
    multiplier, modulus = 0x9E3779B97F4A7C15, 1 << 64
    total = sum(byte * multiplier**i for i, byte in enumerate("Größe".encode())) % modulus
    total = (total ^ (total >> 32)) * 0xBF58476D1CE4E5B9 % modulus
    assert word_value("Größe") == total


def test_hashes_do_not_hang_on_the_hash_seed_of_the_interpreter():
    code = "from planner.quality.words import word_value; print(word_value('planner'))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) == word_value("planner")


@pytest.mark.parametrize("n_characters", [0, 1536, 1537, 9000])
def test_a_text_keeps_its_first_1024_and_last_512_characters(n_characters: int) -> None:
    text = "".join(chr(97 + i % 23) for i in range(n_characters))
    capped = cap(text)
    assert len(capped) == min(n_characters, 1536)
    assert capped[:1024] == text[:1024] and capped[-512:] == text[-512:]
    assert cap(capped) == capped


def test_many_texts_come_in_blocks_in_their_order():
    texts = [f"text {i} " + "日本語" * 400 for i in range(60)]
    blocks = list(read_words(texts))
    assert len(blocks) > 2
    assert sum(block.first.size - 1 for block in blocks) == 60
    numbers = np.concatenate([block.value[block.first[:-1] + 2] for block in blocks])
    assert numbers.tolist() == [word_value(str(i)) for i in range(60)]
    assert max(block.data.size for block in blocks) <= 1 << 16


def test_the_words_of_a_text_are_the_same_alone_and_among_others():
    texts = ["", "a b", "", "ends in letters", "9 lives", ""]
    (together,) = read_words(texts)
    for i, text in enumerate(texts):
        (alone,) = read_words([text])
        np.testing.assert_array_equal(
            together.value[together.first[i] : together.first[i + 1]], alone.value
        )


def test_half_a_surrogate_pair_is_a_letter_like_others():
    (block,) = read_words(["a \ud800 b"])
    assert block.start.size == 4


def test_no_texts_are_no_blocks():
    assert list(read_words([])) == []
