from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.templates import MessageTemplate


def test_placeholders_are_filled() -> None:
    template = MessageTemplate("{greeting} {name}, {{again}}: {name}")
    assert template.names == ("greeting", "name", "name")
    assert template.fill({"greeting": "Hi", "name": "{name}"}) == "Hi {name}, {again}: {name}"
    assert repr(template) == "<MessageTemplate of greeting, name>"
    assert MessageTemplate("plain").fill({}) == "plain"
    with pytest.raises(KeyError):
        template.fill({"name": "x"})


@pytest.mark.parametrize("text", ["{", "}", "a {b", "{}", "{a.b}", "{a!r}", "{0}", "{A}", "{a b}", "{{{", "{{x}"])
def test_unbalanced_braces_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="stray"):
        MessageTemplate(text)


@given(st.text(alphabet="ab{} "))
def test_a_text_with_its_braces_doubled_stands_for_itself(text: str) -> None:
    assert MessageTemplate(text.replace("{", "{{").replace("}", "}}")).fill({}) == text
