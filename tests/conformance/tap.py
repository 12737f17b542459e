"""What a program that speaks TAP (the test anything protocol) says of its tests."""

import re
from dataclasses import dataclass

LINE = re.compile(r"^(not )?ok\b *(\d+)?(?: *-)? *(.*?)(?:\s*#\s*(skip|todo)\b:?\s*(.*))?$", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    name: str
    kind: str  # passed, failed or skipped
    why: str = ""  # of a skipped one its own word, of a failed one its first lines


def read(text):
    """Every test in the order of the lines. Of two with one name the second is "name (2)"."""
    found, seen, told = [], {}, []

    def finish():
        if found and found[-1].kind == "failed" and not found[-1].why:
            found[-1] = Outcome(found[-1].name, "failed", " | ".join(told[:6]))
        told.clear()

    for line in text.splitlines():
        match = LINE.match(line)
        if not match:
            if line.startswith("#"):
                told.append(line[1:].strip())
            continue
        finish()
        wrong, number, name, directive, why = match.groups()
        name = re.sub(r" # [\d.]+s$", "", name).strip() or f"test {number}"
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name} ({seen[name]})"
        if directive and directive.lower() == "skip":
            found.append(Outcome(name, "skipped", re.sub(r"\s*# [\d.]+s$", "", why or "").strip()))
        else:
            found.append(Outcome(name, "failed" if wrong else "passed"))
    finish()
    return found


def planned(text):
    """How many tests the plan line promises, or None without one."""
    plans = re.findall(r"^1\.\.(\d+)", text, re.MULTILINE)
    return int(plans[-1]) if plans else None
