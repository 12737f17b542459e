"""What a program's --help says, as a value: manual pages and completions are made from it, so that they say the same."""

import re
import subprocess
from dataclasses import dataclass, field

HEADING = re.compile(r"^([A-Z][A-Za-z ]*):$")
ENTRY = re.compile(r"^ {2,8}(\S.*?)(?: {2,}(\S.*))?$")
USAGE = re.compile(r"^usage:\s*(.*)$", re.IGNORECASE)
SYNOPSIS_HEADINGS = ("USAGE",)


@dataclass
class Section:
    title: str
    entries: list = field(default_factory=list)  # (word, what it means) or ("", a line as it is)


@dataclass
class Help:
    synopsis: list
    about: list  # paragraphs
    sections: list

    def section(self, *titles):
        found = [one for one in self.sections if one.title.lower() in titles]
        return found[0].entries if found else []

    def commands(self):
        return [(word, text) for word, text in self.section("commands") if word]

    def options(self):
        """Every spelling of every option, and whether a value follows it."""
        out = []
        for word, _ in self.section("options", "global options"):
            takes_value = bool(re.search("[A-Z]", re.sub(r"--?[a-z-]+", "", word)))
            for spelling in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", word):
                out.append((spelling, takes_value))
        return out


def parse(text):
    synopsis, paragraphs, sections, current = [], [[]], [], None
    for line in text.splitlines():
        heading, usage = HEADING.match(line.strip()) if not line.startswith(" ") else None, USAGE.match(line)
        if usage and usage.group(1):
            synopsis.append(usage.group(1))
            current = None
        elif heading:
            current = Section(heading.group(1))
            sections.append(current)
        elif not line.strip():
            if current is None:
                paragraphs.append([])
            elif current.title.lower() not in ("options", "global options", "commands") or not current.entries:
                continue
            else:
                current = None
        elif current is not None and line.startswith(" "):
            add_entry(current, line)
        else:
            current = None
            paragraphs[-1].append(line.strip())
    for section in list(sections):
        if section.title in SYNOPSIS_HEADINGS:
            synopsis += [text for _, text in section.entries]
            sections.remove(section)
        elif section.title == "NAME":
            paragraphs.insert(0, [text.split(" - ", 1)[-1] for _, text in section.entries])
            sections.remove(section)
    return Help(synopsis, [" ".join(lines) for lines in paragraphs if lines], sections)


def add_entry(section, line):
    """A word and its meaning in two columns; a line of the right column alone goes on with it."""
    if section.title.lower() not in ("options", "global options", "commands"):
        section.entries.append(("", line.strip()))
        return
    match = ENTRY.match(line)
    if match and (match.group(2) or match.group(1).startswith("-")):
        section.entries.append((match.group(1), match.group(2) or ""))
    elif section.entries:
        word, text = section.entries[-1]
        section.entries[-1] = (word, (text + " " + line.strip()).strip())


def of(program, *words):
    out = subprocess.run([program, *words, "--help"], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return parse(out.stdout or out.stderr)


def with_commands(program):
    """A program's help, and that of each of its commands."""
    top = of(program)
    return top, [(word, of(program, *word.split())) for word, _ in top.commands()]
