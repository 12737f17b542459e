"""Manual pages out of --help (help_text.py), and out of fluytd's commented default configuration."""

import re


def plain(text):
    """Text for roff: nothing in it is taken for a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\\&" + text if text.startswith((".", "\\(aq")) else text


def bold(text):
    return "\\fB" + plain(text) + "\\fR"


def option(text):
    """Options bold, what stands for a value in italics."""
    parts = re.split(r"((?<![\w-])--?[a-z][a-z-]*)", text)
    out = []
    for part in parts:
        if re.fullmatch(r"--?[a-z][a-z-]*", part):
            out.append(bold(part))
        else:
            out.append(re.sub(r"([A-Z][A-Z0-9]+)", r"\\fI\1\\fR", plain(part)))
    return "".join(out)


def entries(lines, rows):
    literal = False
    for word, text in rows:
        if not word:
            if not literal:
                lines += [".PP", ".nf", ".RS 4"]
            literal = True
            lines.append(plain(text))
            continue
        lines += [".TP", option(word), plain(text)]
    if literal:
        lines += [".RE", ".fi"]


def body(lines, heading, told, skip=()):
    for section in told.sections:
        if section.title.lower() in skip:
            continue
        lines.append(f"{heading} {section.title.upper() if heading == '.SH' else section.title}")
        entries(lines, section.entries)


def page(name, number, about, top, commands=(), version="", more=()):
    lines = [f".TH {name.upper()} {number} \"\" \"fluyt {version}\" \"fluyt\"", ".SH NAME", plain(f"{name} - {about}"), ".SH SYNOPSIS"]
    for line in top.synopsis:
        lines += [option(line), ".br"]
    lines.append(".SH DESCRIPTION")
    for paragraph in top.about:
        lines += [plain(paragraph), ".PP"]
    body(lines, ".SH", top)
    for word, told in commands:
        lines.append(f".SH {plain(name + ' ' + word)}")
        for line in told.synopsis:
            lines += [option(line), ".PP"]
        for paragraph in told.about:
            lines += [plain(paragraph), ".PP"]
        body(lines, ".SS", told)
    for title, text in more:
        lines += [f".SH {title}", *text]
    return "\n".join(lines) + "\n"


def file_page(name, number, about, text, version):
    lines = [f".TH {name.upper()} {number} \"\" \"fluyt {version}\" \"fluyt\"", ".SH NAME", plain(f"{name} - {about}"),
             ".SH DESCRIPTION", "What fluytd prints as its default configuration:", ".PP", ".nf"]
    return "\n".join(lines + [plain(line) for line in text.splitlines()] + [".fi"]) + "\n"
