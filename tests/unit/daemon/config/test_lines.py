"""On which line a key stands, whatever TOML allows."""

from __future__ import annotations

import tomllib

from muster.config.lines import key_lines

TEXT = '''# a comment = 1
top = 1

[node] # here
name = """
fake = 1
[fake]
"""
"port" = 7411
sub.one = 1
sub.two = { three = 3 }
join = [
  "a = b", # not = a key
  "[c]",
]

[a . "b.c"]
x = 1
[[list]]
y = 'z'
'''


def test_lines_are_those_of_the_statements() -> None:
    tomllib.loads(TEXT)
    assert key_lines(TEXT) == {
        "top": 2,
        "node": 4,
        "node.name": 5,
        "node.port": 9,
        "node.sub": 10,
        "node.sub.one": 10,
        "node.sub.two": 11,
        "node.sub.two.three": 11,
        "node.join": 12,
        "a.b.c": 17,
        "a.b.c.x": 18,
        "list": 19,
        "list.y": 20,
    }


def test_other_line_ends_do_not_shift_the_count() -> None:
    assert key_lines("a = 'x\u2028y'\r\n\r\nb = 2\r\n") == {"a": 1, "b": 3}


def test_an_empty_file_has_no_keys() -> None:
    assert key_lines("") == {}
