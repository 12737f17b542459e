"""Results as docs/conformance.md has them: a line a file with the counts, then the tests that differ or fail by name."""


def count(outcomes, *kinds):
    return sum(outcome.kind in kinds for outcome in outcomes)


def by_file(results, runtimes):
    """`results`: {runtime: {file: [Outcome]}}. With a peer, each count is of both."""
    first, *peers = runtimes
    lines = ["| file | tests | ran | " + " | ".join(f"passed by {name}" for name in runtimes) + " |", "|---" * (3 + len(runtimes)) + "|"]
    totals = [0] * (2 + len(runtimes))
    for file, outcomes in sorted(results[first].items()):
        row = [len(outcomes), count(outcomes, "passed", "failed")]
        row += [count(results[name].get(file, []), "passed") for name in runtimes]
        totals = [total + value for total, value in zip(totals, row)]
        lines.append(f"| {file} | " + " | ".join(map(str, row)) + " |")
    lines.append("| all | " + " | ".join(map(str, totals)) + " |")
    return lines + [""] + not_passed(results, first, peers) + others_alone(results, first, peers)


def cell(text):
    return " ".join(text.replace("|", "\\|").split())[:300]


def kinds_of(results, runtime, file):
    return {outcome.name: outcome.kind for outcome in results[runtime].get(file, [])}


def not_passed(results, first, peers):
    rows = []
    for file, outcomes in sorted(results[first].items()):
        others = [kinds_of(results, peer, file) for peer in peers]
        for outcome in outcomes:
            if outcome.kind == "failed":
                said = [{"passed": "passes", "skipped": "skipped"}.get(kinds.get(outcome.name), "does not") for kinds in others]
                rows.append("| " + " | ".join([file, cell(outcome.name), *said, cell(outcome.why)]) + " |")
    if not rows:
        return [f"Not passed by {first}: none.", ""]
    head = ["file", "test", *peers, "what it says"]
    return [f"Not passed by {first}:", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|", *rows, ""]


def others_alone(results, first, peers):
    lines = []
    for peer in peers:
        names = []
        for file, outcomes in sorted(results[first].items()):
            theirs = kinds_of(results, peer, file)
            names += [f"{file}: {outcome.name}" for outcome in outcomes if outcome.kind == "passed" and theirs.get(outcome.name) == "failed"]
        lines += [f"Passed by {first} and not by {peer}: " + ("; ".join(names) or "none") + ".", ""]
    return lines


def by_program(results, runtimes):
    """A test program a line, of which each is one test: it passes when nothing of it fails."""
    def said(outcomes):
        if not outcomes:
            return "not run"
        word = "fails" if count(outcomes, "failed") else "passes"
        lines = [outcome for outcome in outcomes if outcome.kind != "skipped" and outcome.name != EXIT]
        return f"{word}, {count(lines, 'passed')} of {len(lines)}" if lines else word

    lines = ["| program | " + " | ".join(runtimes) + " |", "|---" * (1 + len(runtimes)) + "|"]
    for file in sorted(results[runtimes[0]]):
        lines.append(f"| {file} | " + " | ".join(said(results[name].get(file, [])) for name in runtimes) + " |")
    passed = [sum(said(outcomes).startswith("passes") for outcomes in results[name].values()) for name in runtimes]
    return lines + [f"| all | " + " | ".join(f"{number} of {len(results[runtimes[0]])} pass" for number in passed) + " |", ""]


EXIT = "exit status"  # the name of the test that a program's own end is
