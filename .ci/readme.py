"Make README.md, and the README that every new project begins with, from their index notebooks."
import re
from pathlib import Path

from mlops_kit.readme import markdown_of, write_readme

ROOT = Path(__file__).resolve().parent.parent
# Text is escaped for JSON there, and not here
QUOTED = re.compile(r'\{= \(([\w.()]+)\|to_json\(ensure_ascii=False\)\)\[1:-1\](?:\|replace\(.*?, line_end\))? =\}')


def template_readme(root=ROOT):
    "The template's README: the notebook's text, with answers as they are"
    text, pictures = markdown_of(root / 'template' / 'nbs' / 'index.ipynb')
    if pictures: raise SystemExit(f'the template has no place for pictures: {", ".join(pictures)}')
    return QUOTED.sub(r'{= \1 =}', text)


if __name__ == '__main__':
    for path in write_readme(ROOT): print(path.relative_to(ROOT))
    (ROOT / 'template' / 'README.md').write_text(template_readme(), encoding='utf-8')
