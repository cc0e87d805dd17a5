"""Mathematics as people write it, brought to one notation: plain TeX without what is only typography.

``normalized`` changes no value. What it leaves is for ``expressions`` and ``reading`` to take or refuse.
"""

import re
import unicodedata

#: Beyond this a text is not an answer.
MAX_CHARACTERS = 4000

_SUPERSCRIPTS = {
    **dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True)),
    "⁺": "+",
    "⁻": "-",
    "ⁿ": "n",
    "ˣ": "x",
    "ⁱ": "i",
}
_SUBSCRIPTS = {**dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)), "ₙ": "n", "ₖ": "k", "ᵢ": "i"}
_GREEK = {
    chr(code): "\\" + unicodedata.name(chr(code)).rsplit(" ", 1)[-1].lower().replace("lamda", "lambda")
    for code in range(0x3B1, 0x3CA)
    if code != 0x3C2
}
_CAPITALS = {
    "Γ": "\\Gamma",
    "Δ": "\\Delta",
    "Θ": "\\Theta",
    "Λ": "\\Lambda",
    "Σ": "\\Sigma",
    "Φ": "\\Phi",
    "Ω": "\\Omega",
}
_CHARACTERS = {
    **dict.fromkeys("−–—‒﹣－", "-"),
    "×": "\\times ",
    "✕": "\\times ",
    "⋅": "\\cdot ",
    "·": "\\cdot ",
    "∙": "\\cdot ",
    "∗": "*",
    "÷": "\\div ",
    "⁄": "/",
    "∕": "/",
    "∶": ":",
    "：": ":",
    "，": ",",
    "、": ",",
    "；": ";",
    "。": ".",
    "（": "(",
    "）": ")",
    "［": "[",
    "］": "]",
    "｛": "\\{",
    "｝": "\\}",
    "＝": "=",
    "＋": "+",
    "％": "%",
    "＜": "<",
    "＞": ">",
    "｜": "|",
    "≤": "\\leq ",
    "≥": "\\geq ",
    "⩽": "\\leq ",
    "⩾": "\\geq ",
    "≦": "\\leq ",
    "≧": "\\geq ",
    "≠": "\\neq ",
    "≈": "\\approx ",
    "±": "\\pm ",
    "∓": "\\mp ",
    "∞": "\\infty ",
    "∪": "\\cup ",
    "∩": "\\cap ",
    "∈": "\\in ",
    "∖": "\\setminus ",
    "∅": "\\emptyset ",
    "ℝ": "\\mathbb{R}",
    "ℤ": "\\mathbb{Z}",
    "ℕ": "\\mathbb{N}",
    "ℚ": "\\mathbb{Q}",
    "ℂ": "\\mathbb{C}",
    "°": "^\\circ ",
    "º": "^\\circ ",
    "√": "\\sqrt ",
    "∛": "\\sqrt[3]",
    "∜": "\\sqrt[4]",
    "′": "'",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "…": "\\ldots ",
    "⋯": "\\ldots ",
    "⟨": "\\langle ",
    "⟩": "\\rangle ",
    "⌊": "\\lfloor ",
    "⌋": "\\rfloor ",
    "⌈": "\\lceil ",
    "⌉": "\\rceil ",
    "ℯ": "e",
    "ⅇ": "e",
    "ⅈ": "i",
    "∧": "\\land ",
    "∨": "\\lor ",
    "∫": "\\int ",
    "∑": "\\sum ",
    "∏": "\\prod ",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": "\\,",
    "\u2062": "",
    "\u200b": "",
    "\ufeff": "",
    "㎝": "cm",
    "℃": "^\\circ \\text{C}",
    "℉": "^\\circ \\text{F}",
    "²": "^{2}",
    "³": "^{3}",
}
_TABLE = str.maketrans({**_GREEK, **_CAPITALS, **_CHARACTERS})
_SPACED_GREEK = re.compile(r"([α-ωΓΔΘΛΣΦΩ])(?=[A-Za-z])")
_POWERS = re.compile("[" + "".join(_SUPERSCRIPTS) + "]+")
_INDICES = re.compile("[" + "".join(_SUBSCRIPTS) + "]+")
_VULGAR = re.compile(r"(\d?)\s*([¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
_ROOT = re.compile(r"\\sqrt\s*(\[[^\]]{1,9}\])?\s*(\d+(?:\.\d+)?)")
_SPACES = re.compile(r"(?<!\\)\\(?:[,;:>! ]|quad\b|qquad\b|thinspace\b|enspace\b)|~")
_TYPOGRAPHY = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|left|right|middle|[bB]igg?[lrm]?|hfill|hline|nobreak"
    r"|bf|it|rm|sf|tt|em|large|Large|normalsize|small|tiny|boldmath|mathstrut|smallskip|medskip)(?![A-Za-z])"
)
_FONTS = re.compile(
    r"\\(?:mathbf|mathit|mathsf|boldsymbol|bm|mathnormal|mathop|pmb|emph|underline|mathstrut)\s*\{([^{}]*)\}"
)
_WORDS = re.compile(
    r"\\(?:text|mathrm|textrm|textbf|textit|textsf|texttt|textnormal|mbox|hbox|operatorname|rm|mathtt|textup)\*?\s*\{([^{}]*)\}"
)
_BRACED_FONT = re.compile(r"\{\s*\\(?:rm|bf|it|sf)\s+([^{}]*)\}")
_SYNONYMS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "\\frac"),
    "le": "\\leq ",
    "leqslant": "\\leq ",
    "ge": "\\geq ",
    "geqslant": "\\geq ",
    "ne": "\\neq ",
    "lt": "<",
    "gt": ">",
    "dots": "\\ldots ",
    "cdots": "\\ldots ",
    "dotsc": "\\ldots ",
    "varnothing": "\\emptyset ",
    "lbrace": "\\{",
    "rbrace": "\\}",
    "lbrack": "[",
    "rbrack": "]",
    "lparen": "(",
    "rparen": ")",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "imath": "i",
    "degree": "^\\circ ",
    "ast": "*",
    "tbinom": "\\binom",
    "dbinom": "\\binom",
    "backslash": "\\setminus ",
    "bullet": "\\cdot ",
    "wedge": "\\land ",
    "vee": "\\lor ",
    "R": "\\mathbb{R}",
    "percent": "\\%",
    "land": "\\land ",
    "approxeq": "\\approx ",
    "simeq": "\\approx ",
    "colon": ":",
    "lcm": "\\lcm ",
    "varphi": "\\phi ",
    "varepsilon": "\\epsilon ",
    "vartheta": "\\theta ",
    "infin": "\\infty ",
    "inf": "\\infty ",
}
_SYNONYM = re.compile(r"\\(" + "|".join(sorted(_SYNONYMS, key=len, reverse=True)) + r")(?![A-Za-z])\s*")
#: Words that stand for a sign.
_OPERATOR_WORDS = {
    "plus or minus": "\\pm ",
    "infinity": "\\infty ",
    "percent": "\\%",
    "per cent": "\\%",
    "pct": "\\%",
    "degrees": "^\\circ ",
    "degree": "^\\circ ",
    "pi": "\\pi ",
    "sqrt": "\\sqrt",
    "cbrt": "\\sqrt[3]",
    "union": "\\cup ",
    "inf": "\\infty ",
    "percentage points": "\\%",
}
_OPERATOR_WORD = re.compile(
    r"(?<![A-Za-z\\{])(" + "|".join(sorted(_OPERATOR_WORDS, key=len, reverse=True)) + r")(?![A-Za-z])\s*",
    re.IGNORECASE,
)
_CALLED_ROOT = re.compile(r"\\sqrt(\[3\])?\s*\(")


class Unreadable(ValueError):
    """A text that is not, as a whole, an answer that is understood; says what stands in the way."""


def normalized(text: str) -> str:
    """The text in the notation that the readers take: ASCII, no typography, ``\\text{…}`` for words."""
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(f"it has {len(text)} characters")
    text = _digits(_without_marks(text))
    text = _SPACED_GREEK.sub(r"\1 ", text)
    text = _VULGAR.sub(_vulgar_fraction, text)
    text = _POWERS.sub(lambda m: "^{" + "".join(_SUPERSCRIPTS[c] for c in m.group()) + "}", text)
    text = _INDICES.sub(lambda m: "_{" + "".join(_SUBSCRIPTS[c] for c in m.group()) + "}", text)
    text = text.translate(_TABLE)
    text = re.sub(r"(?<=\d)\s*\\[,!;:](?=\s*\d{3}(?!\d))\s*", "", text)  # 32\,348
    text = re.sub(r"(?<=\d)\s*\{\s*,\s*\}\s*(?=\d{3}(?!\d))", "", text)  # 32{,}348
    text = re.sub(r"(?<=\d)\{,\}(?=\d)", ".", text)  # 3{,}5
    text = re.sub(r"(?<=\d)\s*,\s*\\!\s*(?=\d{3}(?!\d))", "", text)  # 32,\!348
    text = _TYPOGRAPHY.sub(" ", text)
    text = _BRACED_FONT.sub(r"\\text{\1}", text)
    for _ in range(3):  # fonts within fonts
        text = _FONTS.sub(r"\1", text)
    text = _SYNONYM.sub(lambda m: _SYNONYMS[m.group(1)], text)
    text = _WORDS.sub(r"\\text{\1}", text)
    text = _SPACES.sub(lambda m: "" if m.group() == "\\!" else " ", text)
    text = re.sub(r"(?<!\\)(?:\$|\\[()\[\]])", " ", text)
    text = re.sub(r"\*\*(?=\s*[-+({]?\s*\d|\s*\w\b)", "^", text)
    text = _CALLED_ROOT.sub(lambda m: f"\\root{m.group(1) or ''}(", text)
    text = _OPERATOR_WORD.sub(lambda m: _OPERATOR_WORDS[m.group(1).lower()], text)
    text = _CALLED_ROOT.sub(lambda m: f"\\root{m.group(1) or ''}(", text)
    text = _ROOT.sub(lambda m: f"\\sqrt{m.group(1) or ''}{{{m.group(2)}}}", text)
    return _trimmed(text)


def _digits(text: str) -> str:
    """Digits of any script, and letters of full width or of mathematical alphabets, as plain ones."""
    out = []
    for character in text:
        if character.isascii():
            out.append(character)
        elif (value := unicodedata.decimal(character, None)) is not None:
            out.append(str(value))
        elif character in "٫":
            out.append(".")
        elif character in "٬":
            out.append("")
        elif 0x1D400 <= ord(character) <= 0x1D7FF or 0xFF21 <= ord(character) <= 0xFF5A:
            out.append(unicodedata.normalize("NFKC", character))
        else:
            out.append(character)
    return "".join(out)


def _without_marks(text: str) -> str:
    """Without Markdown's bold, italics and code."""
    text = re.sub(r"`+", "", text.strip())
    text = re.sub(r"\*\*(\S(?:[^*]*\S)?)\*\*", r"\1", text)
    text = re.sub(r"__(\S(?:[^_]*\S)?)__", r"\1", text)
    return re.sub(r"^\*(\S(?:[^*]*\S)?)\*$", r"\1", text)


def _vulgar_fraction(match: "re.Match[str]") -> str:
    whole, character = match.groups()
    above, below = unicodedata.normalize("NFKC", character).split("\u2044")
    return f"{whole}\\frac{{{above}}}{{{below}}}"


def _trimmed(text: str) -> str:
    """Without the sentence's full stop, and the spaces around."""
    text = re.sub(r"\s+", " ", text).strip()
    while text and (text[-1] in ".;,:!" or text[0] in ",;:") and not text.endswith((".)", "\\!")):
        if text.endswith("!") and not text.endswith(" !"):
            break  # a factorial
        text = (
            text.rstrip(".;,:").strip()
            if text[-1] in ".;,:"
            else text[1:].strip()
            if text[0] in ",;:"
            else text[:-1].strip()
        )
    return text
