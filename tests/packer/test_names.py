import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_atelier.packer.names import clashes, complaint, component_complaint, folded, shown

GOOD = [
    "snapshot.json",
    "input/example.png",
    "input/sub dir/ü.png",
    "input/日本語 猫.png",
    "input/🐱.png",
    "input/👩‍🚀.png",
    "input/写真：猫.png",
    "input/%2e%2e%2fx.txt",
    "input/…/x.png",
    "input/.hidden",
    "input/a..b.png",
    "input/console.png",
    "input/com10.txt",
    "input/ leading.png",
    "input/" + "a" * 255,
    "/".join(["d"] * 32),
]
BAD = [
    "",
    "/etc/passwd",
    "//host/share/x",
    "\\\\host\\share",
    "\\\\?\\C:\\x",
    "C:/x",
    "C:x",
    "c:\\x",
    "..",
    "../x",
    "input/../../x",
    "input/..",
    "input/./x",
    "./x",
    "input//x",
    "input/x/",
    "input/..\\x",
    "input\\x",
    "input/a:b",
    "input/x::$DATA",
    "input/a.",
    "input/a ",
    "input/...",
    "input/. ./x",
    "input/nul",
    "input/NUL.png",
    "input/nul .png",
    "input/nul.tar.gz",
    "input/com1.txt",
    "input/COM¹",
    "input/lpt9",
    "input/aux/x.png",
    "input/conin$",
    "input/a\nb",
    "input/a\x00b",
    "input/a\x7fb",
    "input/a\x1b[2Jb",
    "input/photo\u202egnp.exe",
    "input/a\u2066b",
    "input/a\u200bb",
    "input/a\ufeffb",
    "input/a\u2028b",
    "input/a\U000e0041b",
    "input/a\ud800b",
    "input/a\ufffeb",
    "input/a*b",
    "input/a?b",
    "input/a|b",
    'input/a"b',
    "input/a<b",
    "input/．．/．．/x",
    "input/‥/x",
    "input/a／b",
    "input/a＼b",
    "Ｃ：/x",
    "input/.git/hooks/post-checkout",
    "input/.GIT/config",
    "input/GIT~1/config",
    "input/．git/config",
    "input/" + "a" * 256,
    "input/" + "ü" * 128,
    "a/" * 32 + "a",
    "input/" + "a/" * 600 + "x",
]


@pytest.mark.parametrize("name", GOOD)
def test_a_plain_name_is_allowed(name):
    assert complaint(name) is None


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_is_unsafe_somewhere_is_refused_everywhere(name):
    assert complaint(name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("snapshot.json", "Snapshot.JSON"),
        ("input/é.png", "input/e\u0301.png"),
        ("input/STRASSE", "input/straße"),
        ("input/a", "input/a"),
        ("input/a", "input/a/b"),
        ("input/A/b", "input/a/c"),
        ("input/A", "input/a/c"),
    ],
)
def test_two_names_for_one_file_clash(first, second):
    assert clashes([first, second])
    assert clashes([second, first])


def test_different_names_do_not_clash():
    assert clashes(["input/a/b", "input/a/c", "input/ab", "snapshot.json"]) is None


def test_messages_show_no_control_characters():
    assert shown("a\nb\x1b[2J\u202e") == "'a\\x0ab\\x1b[2J\\u202e'"
    assert len(shown("x" * 5000)) < 120


@given(st.text(max_size=40))
def test_judging_a_name_never_fails_and_an_allowed_one_stays_inside(name):
    assert isinstance(shown(name), str)
    if complaint(name) is None:
        parts = name.split("/")
        assert not any(part in ("", ".", "..") for part in parts)
        assert "\\" not in name
        assert ":" not in name
        assert folded(folded(name)) == folded(name)


def test_a_component_with_a_slash_is_no_component():
    assert component_complaint("a/b")
