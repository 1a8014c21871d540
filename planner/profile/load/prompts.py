"""Prompts of a wanted length in tokens, without the server's tokenizer.

Notation
    w    words of a prompt                         t   tokens that the server counted for it
    a    tokens per word                           c   tokens that the server adds (chat template)
    t = c + a w, learned from probes: a, c by least squares, a > 0, c >= 0

The text is made of common short words, which most tokenizers know as one token each. Every prompt
begins with eight words of its own, so that the prefix cache of an engine finds nothing in it; the
rest is a piece of one long text, so that making a prompt costs next to nothing while measuring.
Prompt i of a source depends on the seed and on i alone. Two runs against one server need two
seeds: with the same seed the second run would ask what the server remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import FloatArray

_COMMON = (
    "able about above after again air all along also always and animal another answer any are "
    "arm around ask away back bad bank base bear because bed been before began behind best better "
    "between big bird black blue board boat body book both box boy bring brown build but call came "
    "can car care carry cat center change check child city class clear close cold color come "
    "common cost could country course cover cross cry cut dark day decide deep did door down draw "
    "drive dry during each early earth ease east eat end enough even ever every eye face fact "
    "fall family far farm fast father feel feet few field figure fill find fine fire first fish "
    "five fly follow food foot force form found four free friend from front full game gave get "
    "girl give glass gold gone good got great green ground group grow had half hand happen hard "
    "has have head hear heart heat help her here high him his hold home horse hot hour house how "
    "hundred idea inch island just keep kind king knew know land language large last late laugh "
    "lay lead learn leave left less letter life light like line list listen little live long look "
    "love low machine made main make man many map mark may mean men might mile mind minute miss "
    "money moon more morning most mother mountain move much music must name near need never new "
    "next night nine north note nothing notice now number object ocean off often old once one only "
    "open order other our out over own page paper part pass past path pattern people person "
    "picture piece place plain plan plane plant play point port pose power press problem product "
    "pull put question quick rain ran reach read ready real record red remember rest right river "
    "road rock room round rule run said same saw say school science sea second see seem self "
    "sentence serve set several shape she ship short should show side simple since sing sit six "
    "size sleep slow small snow some song soon sound south space special stand star start state "
    "stay step still stood stop story street strong study such sun sure surface system table tail "
    "take talk teach tell ten test than that their them then there these thing think this those "
    "thought thousand three through time together told too took top toward town travel tree true "
    "try turn two under unit until upon use usual very voice vowel wait walk want war warm was "
    "watch water way week weight well went were west what wheel when where which while white who "
    "whole why will wind with wonder wood word work world would write year yes young your"
)
WORDS = tuple(_COMMON.split())
_HEAD = 8  # words at the start that belong to one prompt alone
_STARTS = 4096  # places in the long text where a prompt's own words may go over into it
_FEWEST = 1e-3  # tokens per word; a slope below that is a probe gone wrong


@dataclass(frozen=True)
class Ask:
    """One request to send: its text, and the answer tokens to ask for."""

    text: str
    n_words: int
    n_output: int


@dataclass(frozen=True)
class Calibration:
    """How many tokens a server counts for a number of words."""

    tokens_per_word: float = 1.0
    overhead_tokens: float = 0.0

    def words(self, tokens: float) -> int:
        """Returns the number of words that come closest to a number of tokens, at least 1."""
        return max(1, round((tokens - self.overhead_tokens) / self.tokens_per_word))

    def tokens(self, n_words: int) -> float:
        """Returns the tokens that a prompt of so many words has."""
        return self.overhead_tokens + self.tokens_per_word * n_words


def calibrate(n_words: Sequence[int], tokens: Sequence[float]) -> Calibration:
    """Returns the calibration that fits probes best: words (n,) against counted tokens (n,).

    One length alone cannot tell the overhead from the words: then the overhead is taken as zero.
    Raises ValueError without a probe, or when longer prompts do not have more tokens.
    """
    if not n_words or len(n_words) != len(tokens):
        raise ValueError("calibration needs the token count of every probe, and at least one")
    words, counted = np.array(n_words, dtype=np.float64), np.array(tokens, dtype=np.float64)
    spread = words - words.mean()
    slope, overhead = 0.0, -1.0
    if spread.any():
        slope = float(spread @ counted / (spread @ spread))
        overhead = float(counted.mean() - slope * words.mean())
    if overhead < 0.0:
        slope, overhead = float(words @ counted / (words @ words)), 0.0
    if slope < _FEWEST:
        raise ValueError(f"longer prompts must have more tokens, got {counted.tolist()}")
    return Calibration(slope, overhead)


@dataclass(frozen=True)
class Lengths:
    """Pairs of prompt and answer lengths in tokens, (n,) each, equally likely."""

    input_tokens: FloatArray
    output_tokens: FloatArray

    def __post_init__(self) -> None:
        shapes = (self.input_tokens.shape, self.output_tokens.shape)
        if shapes[0] != shapes[1] or len(shapes[0]) != 1 or not shapes[0][0]:
            raise ValueError(f"lengths are two lists with one entry per request, got {shapes}")
        if not ((self.input_tokens >= 1).all() and (self.output_tokens >= 1).all()):
            raise ValueError("a prompt and an answer have at least one token")

    @classmethod
    def fixed(cls, input_tokens: float, output_tokens: float) -> Lengths:
        """Returns one pair, for requests of equal length."""
        return cls(np.array([float(input_tokens)]), np.array([float(output_tokens)]))

    @property
    def longest_tokens(self) -> float:
        """Returns prompt and answer of the longest request together, in tokens."""
        return float((self.input_tokens + self.output_tokens).max())


class PromptSource:
    """The requests of a run, by number: `ask(i)` is the i-th, the same for the same seed."""

    def __init__(
        self,
        lengths: Lengths,
        *,
        seed: int,
        calibration: Calibration | None = None,
        in_order: bool = False,
    ) -> None:
        """Takes the lengths at random, or one after the other (`in_order`, for a trace)."""
        self.lengths = lengths
        self.calibration = calibration or Calibration()
        self.in_order = in_order
        self.seed = seed
        self._n_longest = self.calibration.words(float(lengths.input_tokens.max()))
        picks = np.random.default_rng([seed, 0]).integers(0, len(WORDS), self._n_longest + _STARTS)
        words = [WORDS[pick] for pick in picks]
        self._text = " ".join(words)
        # Where each word of the long text begins, and one past the space after the last.
        self._begins = np.concatenate([[0], np.cumsum([len(word) + 1 for word in words])])

    def ask(self, index: int) -> Ask:
        """Returns the request of a number from 0 up."""
        random = np.random.default_rng([self.seed, 1, index])
        n_pairs = self.lengths.input_tokens.size
        pair = index % n_pairs if self.in_order else int(random.integers(n_pairs))
        n_words = self.calibration.words(float(self.lengths.input_tokens[pair]))
        n_output = max(1, round(float(self.lengths.output_tokens[pair])))
        return Ask(self._words(n_words, random), n_words, n_output)

    def probe(self, n_words: int, n_output: int = 1) -> Ask:
        """Returns a request of so many words, at most those of the longest prompt, to calibrate."""
        n_words = min(n_words, self._n_longest)
        random = np.random.default_rng([self.seed, 2, n_words])
        return Ask(self._words(n_words, random), n_words, n_output)

    def _words(self, n_words: int, random: np.random.Generator) -> str:
        """Returns a text of so many words: its own first, then a piece of the long text."""
        own = " ".join(WORDS[pick] for pick in random.integers(0, len(WORDS), min(_HEAD, n_words)))
        n_more = n_words - _HEAD
        if n_more <= 0:
            return own
        start = int(random.integers(_STARTS))
        return f"{own} {self._text[self._begins[start] : self._begins[start + n_more] - 1]}"
