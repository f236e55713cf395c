"""How a piece of HTML looks, as far as it decides whether anybody sees it: ``display``, colours, size, place.

Style attributes, old colour attributes and the simple rules of ``<style>`` (a tag, a class, an id) are read. It is no browser:
what outer style sheets and scripts do is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from PIL import ImageColor

SMALLEST = 2.0  # points
_SAME_COLOUR = 0.1
_FAR = 500  # px or so to the left or above: out of sight
_UNITS = {"px": 0.75, "pt": 1.0, "pc": 12.0, "in": 72.0, "cm": 28.35, "mm": 2.835, "rem": 12.0, "vw": 8.0, "vh": 6.0}
_NUMBER = re.compile(r"(-?(?:\d+\.?\d*|\.\d+))\s*([a-z%]*)")
_OTHER_MEDIA = re.compile(r"@(?:media|supports|page|font-face|keyframes|layer)[^{;]*(?:;|\{(?:[^{}]*\{[^{}]*\})*[^{}]*\})")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_SELECTOR = re.compile(r"([a-z][a-z0-9]*)?((?:[.#][\w-]+)*)$", re.IGNORECASE)
_MOST_RULES = 5_000


@dataclass(frozen=True)
class Look:
    """What is inherited: whether it is hidden, the luminances (0 … 1) of letters and ground, the letters' size in points.

    A ``ground`` of None is a picture, or something that can't be told.
    """

    hidden: bool = False
    letters: float | None = 0.0
    ground: float | None = 1.0
    size: float = 12.0

    def within(self, attributes: Mapping[str, str], rules: Iterable[Mapping[str, str]]) -> Look:
        """The look of an element inside of this one."""
        style: dict[str, str] = {}
        if "color" in attributes:
            style["color"] = attributes["color"]
        if "bgcolor" in attributes:
            style["background-color"] = attributes["bgcolor"]
        for rule in rules:
            style.update(rule)
        style.update(declarations(attributes.get("style", "")))
        if not style and "hidden" not in attributes:
            return self
        look = replace(
            self,
            letters=luminance(style["color"], self.letters) if "color" in style else self.letters,
            ground=_ground(style, self.ground),
            size=_points(style.get("font-size", ""), self.size, self.size),
        )
        return replace(look, hidden=self.hidden or "hidden" in attributes or _is_out_of_sight(style) or look._unreadable())

    def _unreadable(self) -> bool:
        faint = self.letters is not None and self.ground is not None and abs(self.letters - self.ground) < _SAME_COLOUR
        return faint or self.size < SMALLEST


class StyleSheet:
    """The simple rules of a document's ``<style>`` elements."""

    def __init__(self, css: str) -> None:
        self._rules: dict[str, list[tuple[frozenset[str], dict[str, str]]]] = {}
        css = _OTHER_MEDIA.sub("", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL))
        for count, (selectors, body) in enumerate(_RULE.findall(css)):
            if count >= _MOST_RULES:
                break
            style = declarations(body)
            for selector in selectors.split(","):
                found = _SELECTOR.match(selector.strip())
                if style and found and found.group(0):
                    needs: frozenset[str] = frozenset(
                        [*([found.group(1).lower()] if found.group(1) else []), *re.findall(r"[.#][\w-]+", found.group(2))]
                    )
                    self._rules.setdefault(min(needs), []).append((needs, style))

    def rules_for(self, tag: str, attributes: Mapping[str, str]) -> list[dict[str, str]]:
        """The declarations that apply to an element, in the order of the sheet for each of its names."""
        if not self._rules:
            return []
        names = {tag, *(f".{name}" for name in attributes.get("class", "").split())}
        if attributes.get("id"):
            names.add(f"#{attributes['id']}")
        return [style for name in sorted(names) for needs, style in self._rules.get(name, ()) if needs <= names]


def declarations(style: str) -> dict[str, str]:
    """``color: red; font-size: 1px`` as a mapping, in lower case."""
    pairs = (part.partition(":") for part in style.lower().split(";"))
    return {name.strip(): value.replace("!important", "").strip() for name, colon, value in pairs if colon}


def luminance(colour: str, otherwise: float | None) -> float | None:
    """0 (black) … 1 (white); ``otherwise`` where the colour can't be read; None where it is see-through."""
    try:
        red, green, blue, *alpha = ImageColor.getrgb(colour.strip())
    except ValueError:
        see_through = re.match(r"(?:rgb|hsl)a\(.*[,/]\s*(0?\.\d+|0|1)\s*\)$", colour)
        if see_through:
            return otherwise if float(see_through.group(1)) > 0.1 else None
        return otherwise
    if alpha and alpha[0] < 26:
        return None
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def _ground(style: Mapping[str, str], around: float | None) -> float | None:
    """The ground after ``background`` and ``background-color``."""
    if "url(" in style.get("background", "") + style.get("background-image", "") or "gradient" in style.get("background", ""):
        return None
    colour = style.get("background-color") or style.get("background", "")
    if not colour or colour in ("none", "transparent", "inherit", "initial"):
        return around
    return luminance(colour, luminance(colour.split()[0], around))


def _is_out_of_sight(style: Mapping[str, str]) -> bool:
    if style.get("display") == "none" or style.get("visibility") in ("hidden", "collapse"):
        return True
    if _points(style.get("opacity", ""), 1.0, 1.0) < 0.1 or luminance(style.get("color", "black"), 0.0) is None:
        return True
    away = style.get("position") in ("absolute", "fixed") and any(_points(style.get(side, ""), 0, 0) < -_FAR for side in ("left", "top"))
    clipped = style.get("overflow", "").startswith("hidden") and any(
        side in style and _points(style[side], 99, 99) < SMALLEST for side in ("width", "height", "max-width", "max-height")
    )
    return away or clipped or _points(style.get("text-indent", ""), 0, 0) < -_FAR


def _points(value: str, base: float, otherwise: float) -> float:
    """A length in points; ``em`` and ``%`` are of ``base``."""
    found = _NUMBER.match(value.strip())
    if not found:
        return otherwise
    number, unit = float(found.group(1)), found.group(2)
    if unit in ("em", "ex", "ch"):
        return number * base
    return number * base / 100 if unit == "%" else number * _UNITS.get(unit, 1.0)
