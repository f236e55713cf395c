"""Names are put as the passage writes them, and nothing else is."""

from __future__ import annotations

import pytest
from assistant.knowledge.spelling import as_written


@pytest.mark.parametrize(
    ("question", "passage", "put"),
    [
        ("Công tác phí một ngày ở Hà Nội là bao nhiêu?", "Hanoi | Hue | Da Nang", "Công tác phí một ngày ở Hanoi là bao nhiêu?"),
        ("Đà Nẵng có mấy phòng?", "From Hanoi to Da Nang by train", "Da Nang có mấy phòng?"),
        ("What is paid in Ha Noi, and in Hue?", "ở Hà Nội và Huế", "What is paid in Hà Nội, and in Huế?"),
        ("Is Ho Chi Minh City meant?", "Thành phố Hồ Chí Minh", "Is Hồ Chí Minh City meant?"),
        ("Who is chị Lan?", "anh Lân", "Who is chị Lân?"),  # typed without diacritics, as far as anyone can tell
        ("Ai làm việc ở đây?", "chị Ái", "Ai làm việc ở đây?"),
        ("Anh Hưng ở phòng nào?", "anh Hùng ở phòng 12", "Anh Hưng ở phòng nào?"),  # both have diacritics: another man
        ("And in Hanoi?", "in Hanoi", "And in Hanoi?"),
        ("ở hà nội?", "in Hanoi", "ở hà nội?"),
        ("Ai ở Hà Nội?", "Ha, and Hanoi", "Ai ở Hanoi?"),  # the longest name
        ("", "", ""),
    ],
)
def test_a_name_is_put_as_the_passage_writes_it(question: str, passage: str, put: str) -> None:
    assert as_written(question, passage) == put
