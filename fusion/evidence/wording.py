"""How differences of losses are written: one sign, and words that follow the figure as printed."""

import math

DIGITS = 4


def format_signed(value: float, digits: int = DIGITS) -> str:
    """A number with its sign; one that is printed as zero has none. The minus is the hyphen."""
    if not math.isfinite(value):
        return str(value)
    text = format(value, f"+.{digits}f")
    return text if text.strip("+-0.") else text[1:]


def format_amount(value: float, unit: str = "") -> str:
    """The size of a number with its unit, without a sign."""
    return f"{abs(value):.{DIGITS}f} {unit}".rstrip()


def describe_gain(gain: float, unit: str, *, than: str = "") -> str:
    """How a model's loss compares with another's: "0.0390 nats higher than that of seed-1".

    Args:
        gain: loss of the other minus that of the model.
        unit: unit of the loss; "" for none.
        than: what the other is called; "" where that is clear.
    """
    sign = format_signed(gain)[:1]
    if sign not in ("+", "-"):
        return "the same" + (f" as that of {than}" if than else "")
    better = "lower" if sign == "+" else "higher"
    return f"{format_amount(gain, unit)} {better}" + (f" than that of {than}" if than else "")
