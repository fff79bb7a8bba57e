"""The table of a comparison, with the goals and whether they were met."""

from __future__ import annotations

from typing import Any

from biapy_settings import SETTINGS

START_GOAL, MEMORY_GOAL, TEST_GOAL = 2.0, 0.60, 5.0

Row = list[str]


def markdown(figures: list[dict[str, Any]]) -> str:
    """Return a markdown table: one column a setting, BiaPy / ours, then ratios and goals."""
    columns = [_column(one) for one in figures]
    names = [SETTINGS[one["setting"]].title for one in figures]
    rows = [["BiaPy → ours", *names], ["---"] * (len(names) + 1)]
    rows.extend([label, *[column[label] for column in columns]] for label in columns[0])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _column(one: dict[str, Any]) -> dict[str, str]:
    setting, theirs, ours = SETTINGS[one["setting"]], one["biapy"], one["ours"]
    speed = ours["patches_per_second"] / theirs["patches_per_second"]
    start = theirs["start"] / ours["start"]
    test = theirs["test_seconds"] / max(1e-9, ours["test_seconds"])
    memory = ours["memory"] / theirs["memory"]
    return {
        "patch, batch": f"{' x '.join(map(str, setting.patch))}, {setting.batch}",
        "parameters, million": _pair(theirs, ours, "parameters", 1e-6, 2),
        "of these encoder, million": _encoder(one["encoder"]),
        "training patches/s": _pair(theirs, ours, "patches_per_second", 1, 2),
        "**speed ratio**": _goal(
            f"{speed:.1f}x", f"≥ {setting.speed_goal:.0f}x", met=speed >= setting.speed_goal
        ),
        "launch to first step done, s": _pair(theirs, ours, "start", 1, 1),
        "**sooner by**": _goal(f"{start:.1f}x", "≥ 2x", met=start >= START_GOAL),
        "peak memory, GiB": _pair(theirs, ours, "memory", 1, 2),
        "**memory ratio**": _goal(f"{memory:.0%}", "≤ 60 %", met=memory <= MEMORY_GOAL),
        "training stage, s": _pair(theirs, ours, "train_seconds", 1, 0),
        "test stage, s": _pair(theirs, ours, "test_seconds", 1, 1),
        "**test sooner by**": _goal(f"{test:.1f}x", "≥ 5x", met=test >= TEST_GOAL),
        **_quality(one["quality"], masking=setting.masking),
    }


def _pair(theirs: dict[str, Any], ours: dict[str, Any], key: str, scale: float, digits: int) -> str:
    return f"{theirs[key] * scale:.{digits}f} → {ours[key] * scale:.{digits}f}"


def _encoder(encoder: dict[str, int]) -> str:
    return f"{encoder['biapy'] / 1e6:.3f} → {encoder['ours'] / 1e6:.3f}" if encoder else "-"


def _goal(value: str, goal: str, *, met: bool) -> str:
    return f"**{value}** ({goal}: {'met' if met else 'MISSED'})"


def _quality(quality: dict[str, float], *, masking: bool) -> dict[str, str]:
    theirs, ours, given = quality["biapy"], quality["ours"], quality["input"]
    crappify = "restored PSNR, dB (worsened input)"
    hidden = "hidden error / visible mean's (smooth interpolation)"
    if masking:
        text = _goal(f"{theirs:.3f} → {ours:.3f}", "lower", met=ours < theirs)
        return {crappify: "-", hidden: f"{text} ({given:.3f})"}
    text = _goal(f"{theirs:.2f} → {ours:.2f}", "higher", met=ours > theirs)
    return {crappify: f"{text} ({given:.2f})", hidden: "-"}
