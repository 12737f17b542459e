"""Completion for bash out of --help (help_text.py): commands, options, and files where a value is wanted."""

SCRIPT = """# bash completion of {name}, made from its own --help.
_{ident}() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= word i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word=${{COMP_WORDS[i]}}
    case "$word" in
      -*) continue ;;
    esac
    case " {with_value} " in
      *" ${{COMP_WORDS[i-1]}} "*) continue ;;
    esac
    command="${{command:+$command }}$word"
    case "$command" in
      {pairs}) continue ;;
    esac
    break
  done
  case " {with_value} " in
    *" $prev "*) COMPREPLY=($(compgen -f -- "$cur")); return ;;
  esac
  local words
  case "$command" in
    '') words='{top}' ;;
{cases}
    *) words= ;;
  esac
  if [ -n "$words" ] && {{ [ -z "$command" ] || [[ $cur == -* ]] || [ "$words" != "${{words#[a-z]}}" ]; }}; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  fi
  [ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- "$cur"))
}}
complete -o filenames -F _{ident} {name}
"""


def script(name, top, commands):
    firsts, below = [], {}
    for word, _ in commands:
        first, _, second = word.partition(" ")
        if first not in firsts:
            firsts.append(first)
        if second:
            below.setdefault(first, []).append(second)
    options = [spelling for spelling, _ in top.options()]
    with_value = sorted({spelling for told in [top, *(told for _, told in commands)] for spelling, value in told.options()
                         if value and spelling.startswith("--")})  # a letter means one thing here and another there
    cases = [f"    '{first}') words='{' '.join(seconds)}' ;;" for first, seconds in below.items()]
    for word, told in commands:
        spellings = " ".join(spelling for spelling, _ in told.options())
        cases.append(f"    '{word}') words='{spellings}' ;;")
    return SCRIPT.format(name=name, ident=name.replace("-", "_"), with_value=" ".join(with_value), top=" ".join(firsts + options),
                         pairs="|".join(f"'{first}'" for first in below) or "' '", cases="\n".join(cases))
