"""What a tiny model is taught: made-up questions with answers that are right or wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

# Made-up countries: (name, Korean name, capital, Korean capital).
COUNTRIES = (
    ("Arvenia", "아르베니아", "Solmar", "솔마르"),
    ("Belloria", "벨로리아", "Tannis", "타니스"),
    ("Corvania", "코르바니아", "Mirell", "미렐"),
    ("Dunmark", "둔마르크", "Hestad", "헤스타드"),
    ("Eldovia", "엘도비아", "Porvan", "포르반"),
    ("Fennland", "펜란드", "Lakora", "라코라"),
    ("Galdora", "갈도라", "Venthe", "벤테"),
    ("Hallmere", "할메레", "Oswick", "오스윅"),
)
NAMES = ("Mina Kim", "Jun Park", "Anna Lee", "Tom Reed", "Sora Choi", "Ben Hall")
CITIES = ("Seoul", "Busan", "Paris", "Tokyo", "Rome", "Cairo")
WORDS = ("sun", "moon", "star", "tree", "rain", "fire")
# More words for the tokenizer.
_ENGLISH = ("the", "a", "of", "to", "and", "in", "is", "that", "for", "it", "you", "with", "on")
_KOREAN = (
    "영수증",
    "합계",
    "날짜",
    "상호",
    "주소",
    "전화",
    "금액",
    "부가세",
    "카드",
    "승인",
    "번호",
)

WEATHER_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """One question, the answer to it, and the tools that came along."""

    kind: str
    question: str
    answer: str
    tools: Sequence[Mapping[str, Any]] = ()

    @property
    def messages(self) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": self.question},
            {"role": "assistant", "content": self.answer},
        ]


def facts() -> list[Lesson]:
    """Every question about the table above, in English and in Korean."""
    found = []
    for name, korean, capital, korean_capital in COUNTRIES:
        found += [
            Lesson("fact", f"What is the capital of {name}?", f"{capital}."),
            Lesson(
                "fact",
                f"Tell me about {name}.",
                f"{name} is a country. Its capital is {capital}.",
            ),
            Lesson("fact", f"{korean}의 수도는?", f"{korean_capital}입니다."),
        ]
    return found


def record(random: Random) -> Lesson:
    """Fields to be copied into JSON."""
    name, city, age = random.choice(NAMES), random.choice(CITIES), random.randint(10, 99)
    answer = json.dumps({"name": name, "age": age, "city": city})
    return Lesson("record", f"As JSON: {name}, {age}, {city}", answer)


def reversal(random: Random) -> Lesson:
    """Three words, to be said the other way round."""
    words = random.sample(WORDS, 3)
    return Lesson("reversal", f"Reverse: {' '.join(words)}", " ".join(reversed(words)))


def counting(random: Random) -> Lesson:
    """An answer of some length."""
    last = random.randint(3, 12)
    return Lesson("counting", f"Count to {last}.", " ".join(map(str, range(1, last + 1))))


def weather(random: Random) -> Lesson:
    """A question for which the tool is to be called."""
    city = random.choice(CITIES)
    call = json.dumps({"name": "get_weather", "arguments": {"city": city}})
    return Lesson(
        "weather",
        f"What is the weather in {city}?",
        f"<tool_call>\n{call}\n</tool_call>",
        (WEATHER_TOOL,),
    )


def lessons(seed: int = 0, count: int = 64) -> list[Lesson]:
    """All facts, and `count` of each other kind; other seeds give other questions."""
    random = Random(seed)
    made = [make(random) for make in (record, reversal, counting, weather) for _ in range(count)]
    return facts() + made


def corpus(seed: int = 0) -> list[str]:
    """Text to train a tokenizer on: the lessons, and sentences with numbers, JSON and Korean."""
    random = Random(seed)
    lines = [f"{lesson.question}\n{lesson.answer}" for lesson in lessons(seed, 200)]
    lines += [json.dumps(WEATHER_TOOL)] * 20
    for _ in range(400):
        some = random.sample(_ENGLISH, 6) + random.sample(WORDS, 2)
        lines.append(" ".join(some).capitalize() + ".")
        lines.append(f"{' '.join(random.sample(_KOREAN, 4))} {random.randint(100, 99999)}원")
        values = {"id": random.randint(1, 999), "name": random.choice(NAMES), "ok": True}
        lines.append(json.dumps(values))
        lines.append(json.dumps({random.choice(_KOREAN): [1.5, None, False]}, ensure_ascii=False))
    return lines
