"""Units behind a number: which are the same, and how many of one make another."""

import re
from fractions import Fraction

_DIMENSIONS: dict[str, dict[str, str]] = {
    "length": {
        "m": "1 metre meter",
        "km": "1000 kilometre kilometer",
        "dm": "1/10 decimetre decimeter",
        "cm": "1/100 centimetre centimeter",
        "mm": "1/1000 millimetre millimeter",
        "nm": "1/1000000000 nanometre nanometer",
        "in": "254/10000 inch inche",
        "ft": "3048/10000 foot feet",
        "yd": "9144/10000 yard",
        "mi": "1609344/1000 mile",
    },
    "mass": {
        "g": "1 gram gramme",
        "kg": "1000 kilogram",
        "mg": "1/1000 milligram",
        "t": "1000000 ton tonne",
        "lb": "45359237/100000 pound",
        "oz": "45359237/1600000 ounce",
    },
    "time": {
        "s": "1 sec second",
        "ms": "1/1000 millisecond",
        "min": "60 minute",
        "h": "3600 hr hour",
        "d": "86400 day",
        "week": "604800",
    },
    "volume": {"l": "1 litre liter", "ml": "1/1000 millilitre milliliter"},
    "money": {"dollar": "1 usd $ buck", "cent": "1/100 ¢ penny pennie"},
    "euro": {"euro": "1 eur €"},
    "pound sterling": {"gbp": "1 £"},
    "yen": {"yen": "1 jpy ¥ yuan cny rmb 元 円"},
    "rupee": {"rupee": "1 inr ₹ rs"},
    "year": {"year": "1 yr", "month": "1/12"},
    "celsius": {"celsius": "1 degreec °c"},
    "fahrenheit": {"fahrenheit": "1 degreef °f"},
    "energy": {"j": "1 joule", "kj": "1000 kilojoule"},
    "force": {"n": "1 newton"},
    "power": {"w": "1 watt", "kw": "1000 kilowatt"},
    "voltage": {"v": "1 volt"},
    "current": {"a": "1 amp ampere"},
    "frequency": {"hz": "1 hertz", "khz": "1000 kilohertz", "mhz": "1000000 megahertz"},
    "angle": {"degree": "1 deg", "radian": "0 rad"},
    "speed": {"mph": "44704/100000", "kph": "5/18 kmh kmph", "m/s": "1"},
}
_KNOWN = {
    word: (dimension, Fraction(names.split()[0]))
    for dimension, of_dimension in _DIMENSIONS.items()
    for symbol, names in of_dimension.items()
    for word in (symbol, *names.split()[1:])
}
CURRENCIES = "$€£¥₹"
#: Letters that are units behind a number, and names elsewhere.
LETTER_UNITS = frozenset(["m", "g", "s", "h", "l", "L", "N", "J", "W", "V", "A", "K", "d", "t"])
#: Symbols of one or two letters that stand behind a number without ``\text``: of these no product is meant.
SHORT = frozenset(
    {
        "cm",
        "mm",
        "km",
        "kg",
        "mg",
        "ft",
        "lb",
        "oz",
        "ml",
        "mL",
        "dm",
        "yd",
        "mi",
        "hr",
        "Hz",
        "kW",
        "kJ",
        "pm",
        "am",
    }
)


def known(word: str) -> bool:
    """Whether a word is a unit that is known here."""
    return _plain(word) in _KNOWN


def scale(unit: str) -> tuple[str, Fraction] | None:
    """The dimension of a unit and its factor, ``cm^2`` and ``m/s`` too; None where it is not a known one."""
    if _plain(unit) in _KNOWN:
        return _KNOWN[_plain(unit)]
    if match := re.fullmatch(r"(?:(sq(?:uare)?|cu(?:bic)?)\.? )(.+)", unit, re.IGNORECASE):
        power = 2 if match.group(1).lower().startswith("sq") else 3
        return _power(match.group(2), power)
    if match := re.fullmatch(r"(.+?)\s*(?:\^\s*\{?\s*([23])\s*\}?|\b(squared|cubed))", unit):
        power = int(match.group(2) or (2 if match.group(3) == "squared" else 3))
        return _power(match.group(1), power)
    for separator in ("/", " per "):
        if separator in unit:
            above, _, below = unit.partition(separator)
            one, other = scale(above.strip()), scale(below.strip())
            if one is None or other is None or not other[1]:
                return None
            return f"{one[0]}/{other[0]}", one[1] / other[1]
    return None


def _power(unit: str, power: int) -> tuple[str, Fraction] | None:
    found = scale(unit.strip())
    if found is None:
        return None
    dimension, factor = f"{found[0]}^{power}", found[1] ** power
    return (dimension, factor) if dimension != "length^3" else ("volume", factor * 1000)


def _plain(word: str) -> str:
    plain = word.strip().strip(".").lower()
    if plain in _KNOWN or len(plain) < 3:
        return plain
    return plain.removesuffix("s")


def conversion(one: str, other: str) -> Fraction | None:
    """How many of ``other`` make one of ``one``; 1 where that is not known, None where they differ."""
    if not one or not other or _plain(one) == _plain(other):
        return Fraction(1)
    a, b = scale(one), scale(other)
    if a is None or b is None:
        return Fraction(1)
    if (a[0] == "volume" and b[0] == "volume") or a[0] == b[0]:
        return a[1] / b[1] if b[1] and a[1] else None
    return None
