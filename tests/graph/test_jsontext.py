"""JSON is read strictly, and every refusal names its place."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_atelier.graph import PromptError
from comfy_atelier.graph.jsontext import MAX_DEPTH, check_json, parse_json, short


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("{", "line 1, column 2"),
        ('{"a": 1} }', "extra data at line 1, column 10"),
        ("{'a': 1}", "not JSON"),
        ('{"a": {"b": [1, NaN]}}', "a.b[1]: NaN"),
        ('{"a": -Infinity}', "a: -Infinity"),
        ('{"a": 1e999}', "a: "),
        ('{"a": ' + "9" * 5000 + "}", "a: an integer of 5000 digits"),
        ('{"a": {"x y": 1, "x y": 2}}', 'a: names "x y" twice'),
        ('{"a": "\\ud800"}', "a: holds half of a surrogate pair"),
        ('{"\\udfff": 1}', "a key holds half of a surrogate pair"),
        (b'{"a": "\xff"}', "not UTF-8: byte 7"),
        (b"\xff\xfe{", "not UTF-16"),
        ("[" * 500 + "]" * 500, f"deeper than {MAX_DEPTH}"),
        ("[" * 200_000 + "]" * 200_000, f"deeper than {MAX_DEPTH}"),
        ('{"a":' * 100_000, "deeper than"),
    ],
)
def test_refusals_name_the_place(text: str | bytes, says: str) -> None:
    with pytest.raises(PromptError) as caught:
        parse_json(text, error=PromptError)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


def test_encodings_that_editors_write() -> None:
    for data in (b'\xef\xbb\xbf{"a": 1}', '{"a": 1}'.encode("utf-16"), '\ufeff{"a": 1}', b'{"a": 1}'):
        assert parse_json(data) == {"a": 1}


def test_depth_up_to_the_limit_is_fine() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_what_programs_hand_in_is_checked_too() -> None:
    for value in ({"a": float("nan")}, {"a": [object()]}, {1: 2}, {"a": {1, 2}}, {"a": 1 << 5000}, {"a": b"x"}):
        with pytest.raises(PromptError):
            check_json(value, error=PromptError)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**64), max_value=2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_any_json_survives(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(JSON_VALUES)
def test_messages_show_any_value_on_one_short_line(value: object) -> None:
    text = short(value)
    assert len(text) <= 60
    assert all(c.isprintable() for c in text)


@given(st.binary(max_size=200))
def test_any_bytes_give_json_or_a_graph_error(data: bytes) -> None:
    with contextlib.suppress(PromptError):
        parse_json(data, error=PromptError)
