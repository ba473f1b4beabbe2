"""Weighted captions: the grammar of the web UI, and what weights do to hidden states."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from library.models.emphasis import emphasise, parse_sections, parse_weights

# Every example that the web UI's own description of the grammar gives, and the corners of it.
GRAMMAR = [
    ("normal text", [("normal text", 1.0)]),
    ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
    ("(unbalanced", [("unbalanced", 1.1)]),
    ("[unbalanced", [("unbalanced", 1 / 1.1)]),
    (r"\(literal\]", [("(literal]", 1.0)]),
    ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        [("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1)]
        + [("sky", 1.4641), (".", 1.1)],
    ),
    ("(word:1.3)", [("word", 1.3)]),
    ("((word))", [("word", 1.21)]),
    ("[[word]]", [("word", 1 / 1.21)]),
    ("(word : 1.3 )", [("word ", 1.3)]),
    ("(word:+.5)", [("word", 0.5)]),
    ("(word:2.)", [("word", 2.0)]),
    ("(word:0)", [("word", 0.0)]),
    ("(a:b)", [("a:b", 1.1)]),
    ("a:1.3)", [("a:1.3)", 1.0)]),
    ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
    ("[a:0.5]", [("a:0.5", 1 / 1.1)]),
    ("a) b]", [("a) b]", 1.0)]),
    (r"back\\slash \x \(", [(r"back\slash \x (", 1.0)]),
    (r"(a \(series\):1.2)", [("a (series)", 1.2)]),
    ("", []),
    ("()", []),
]


@pytest.mark.parametrize(("caption", "segments"), GRAMMAR)
def test_the_grammar(caption: str, segments: list[tuple[str, float]]) -> None:
    found = parse_weights(caption)
    assert [text for text, _ in found] == [text for text, _ in segments]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in segments])


@effort(deadline=None)
@given(st.text(st.characters(blacklist_characters="()[]\\", blacklist_categories=["Cs"])))
def test_a_caption_without_brackets_stays_whole(caption: str) -> None:
    assert parse_weights(caption) == ([(caption, 1.0)] if caption else [])


@effort(deadline=None)
@given(st.text("ab:.1()[]\\ ") | st.text())
def test_any_caption_survives_and_no_word_is_lost(caption: str) -> None:
    found = parse_weights(caption)
    kept = "".join(text for text, _ in found)
    assert [c for c in caption if c.isalpha()] == [c for c in kept if c.isalpha()]
    assert all(one[1] != other[1] for one, other in zip(found, found[1:], strict=False))


@effort(deadline=None)
@given(st.text("ab ()[]\\:1"))
def test_escaping_everything_makes_it_plain(caption: str) -> None:
    escaped = "".join(f"\\{c}" if c in "()[]\\" else c for c in caption)
    assert parse_weights(escaped) == ([(caption, 1.0)] if caption else [])


def test_states_are_weighed_and_their_mean_is_restored() -> None:
    torch.manual_seed(0)
    states, weights = torch.randn(2, 5, 4) + 0.5, torch.ones(2, 5)
    weights[1, 2] = 1.5
    found = emphasise(states, weights)
    assert torch.equal(found[0], states[0])
    assert found[1].mean().item() == pytest.approx(states[1].mean().item(), abs=1e-6)
    by_hand = states[1].clone()
    by_hand[2] *= 1.5
    torch.testing.assert_close(found[1], by_hand * (states[1].mean() / by_hand.mean()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_one_change_no_bit(dtype: torch.dtype) -> None:
    states = torch.cat([torch.randn(1, 5, 4), torch.zeros(1, 5, 4)]).to(dtype).requires_grad_()
    found = emphasise(states, torch.ones(2, 5))
    assert found.dtype == dtype and torch.equal(found, states)
    found.float().sum().backward()
    assert torch.equal(states.grad, torch.ones_like(states))  # nothing is divided by the zeros' mean


def test_gradients_pass() -> None:
    states = (torch.randn(1, 5, 4) + 0.5).double().requires_grad_()
    weights = torch.tensor([[1.0, 1.3, 0.5, 1.0, 1.0]])
    emphasise(states.float(), weights).square().sum().backward()
    assert states.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("prompt", "sections"),
    [
        ("a dog", [[("a dog", 1.0)]]),
        ("", [[]]),
        ("a  BREAK\n b", [[("a", 1.0)], [("b", 1.0)]]),
        ("(a:1.2)BREAK[b]", [[("a", 1.2)], [("b", 1 / 1.1)]]),
        ("(a BREAK b:1.5) c", [[("a", 1.5)], [("b", 1.5), (" c", 1.0)]]),
        ("BREAK a BREAK", [[], [("a", 1.0)]]),
        ("a BREAK BREAK b", [[("a", 1.0)], [], [("b", 1.0)]]),
        ("break BREAKS", [[("break BREAKS", 1.0)]]),
    ],
)
def test_breaks(prompt: str, sections: list[list[tuple[str, float]]]) -> None:
    found = parse_sections(prompt)
    assert [[text for text, _ in each] for each in found] == [[text for text, _ in each] for each in sections]
    weights = [weight for each in found for _, weight in each]
    assert weights == pytest.approx([weight for each in sections for _, weight in each])


def test_absurd_weights_stay_numbers() -> None:
    assert parse_weights(f"(a:{'9' * 400})") == [("a", 1000.0)]
    assert parse_weights("(" * 40 + "a" + ":999)" * 40) == [("a", 1000.0)]
    assert parse_weights("(" * 40 + "a" + ":-999)" * 39 + ")") == [("a", -1000.0)]
    assert len(parse_weights("(a" * 20_000)) > 1
