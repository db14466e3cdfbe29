"""The docs site without Quarto: nbdev's processed pages through pandoc, its engine.

python tools/make_site.py OUT      builds the site in the folder OUT; open OUT/index.html
"""

import ast
import base64
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / 'nbs'
PROC = ROOT / '_proc'
TEMPLATE = Path(__file__).with_name('site_template.html')
DECADES = {
    '0': 'Foundations',
    '1': 'Sound, faces and data',
    '2': 'Networks',
    '3': 'Training',
    '4': 'Making videos',
    '5': 'How well, how fast',
}  # first digit of a page's number -> name of the chapter


def text(source):  # a string, or its lines
    "The source of a cell or an output as one string."
    return ''.join(source) if isinstance(source, list) else source or ''


def cells_of(path):  # a notebook
    "The cells of a notebook."
    return json.loads(Path(path).read_text(encoding='utf-8'))['cells']


def numbered_pages():
    "The pages of `nbs/` in their order, index excluded."
    return sorted(NBS.glob('[0-9]*.ipynb'))


def title_of(page):  # a notebook whose first Markdown cell is `# title` and `> line`
    "Title and subtitle of a page."
    first = next(text(c['source']) for c in cells_of(page) if c['cell_type'] == 'markdown')
    title = re.search(r'^# +(.+)', first, re.M)
    line = re.search(r'^> *(.+)', first, re.M)
    return (title[1] if title else page.stem), (line[1] if line else '')


def chapters():
    "`{name of a chapter: its pages}`."
    out = {}
    for page in numbered_pages():
        out.setdefault(DECADES.get(page.stem[0], 'More'), []).append(page)
    return out


def sidebar_yml():
    "Quarto's sidebar with the chapters' names, the text of `nbs/sidebar.yml`."
    lines = ['website:', '  sidebar:', '    contents:', '      - index.ipynb']
    for name, pages in chapters().items():
        lines += [f'      - section: "{name}"', '        contents:']
        lines += [f'          - {page.name}' for page in pages]
    return '\n'.join(lines) + '\n'


# ---- from a processed notebook to Markdown


def allow_generated_functions():
    "Let nbdev describe an `__init__` that a dataclass made: it has a signature and no source."
    from fastcore import docments

    plain = docments.get_source

    def get_source(function):
        try:
            return plain(function)
        except OSError:
            return None

    docments.get_source = get_source


def process(
    force=True,  # process pages that did not change as well
):
    "nbdev's own steps up to the pages in `_proc/`; its commands would look for Quarto."
    os.environ.setdefault('PYTHONWARNINGS', 'ignore')  # for the processes that run cells
    import nbdev.doclinks
    from nbdev.config import get_config
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs

    allow_generated_functions()
    refresh_quarto_yml()
    nbdev.doclinks._build_modidx()
    proc_nbs(get_config().nbs_path, n_workers=0, force=force)  # here, where the change above is


@dataclass
class Page:
    "A page on its way from notebook to HTML."

    source: str  # file name of the notebook
    name: str  # file name of the HTML
    title: str
    line: str = ''  # subtitle
    markdown: str = ''
    html: str = ''
    faults: list = field(default_factory=list)


def output_markdown(output, stem, out):
    "Markdown of one output of a cell; pictures are written to the folder `out`."
    data = output.get('data', {})
    if 'text/markdown' in data:
        return text(data['text/markdown'])
    for mime, ending in ('image/png', 'png'), ('image/jpeg', 'jpg'):
        if mime in data:
            (out / f'{stem}.{ending}').write_bytes(base64.b64decode(text(data[mime])))
            return f'![]({stem}.{ending})'
    if 'image/svg+xml' in data:
        return '````{=html}\n' + text(data['image/svg+xml']) + '\n````'
    if 'text/html' in data:
        return '````{=html}\n<div class="output">' + text(data['text/html']) + '</div>\n````'
    plain = text(output.get('text') or data.get('text/plain'))
    return '````{.output}\n' + plain + '\n````' if plain.strip() else ''


def code_markdown(cell, stem, out):
    "Markdown parts of a code cell, as a reader sees it."
    source = text(cell['source'])
    options = dict(re.findall(r'^#\|\s*([\w-]+):\s*(.+?)\s*$', source, re.M))
    if options.get('include') == 'false':
        return []
    code = re.sub(r'^#\|.*\n?', '', source, flags=re.M).strip('\n')
    parts = []
    if code.strip() and options.get('echo') != 'false':
        parts.append(f'````python\n{code}\n````')
    if options.get('output') != 'false':
        outputs = enumerate(cell.get('outputs', []))
        parts += [output_markdown(o, f'{stem}-{k}', out) for k, o in outputs]
    return parts


def defined(source):
    "Names that a cell defines: functions, classes, variables."
    out = []
    for n in ast.parse(source).body:
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)):
            out.append(n.name)
        elif isinstance(n, ast.Assign):
            out += [t.id for t in n.targets if isinstance(t, ast.Name)]
    return out


def folded(source, names):
    "Markdown of a cell of the package, as a fold that says what is in it."
    code = re.sub(r'^#\|.*\n?', '', source, flags=re.M).strip('\n')
    head = f'<details class="code"><summary>{escape(", ".join(names))}</summary>'
    blocks = [('{=html}', head), ('python', code), ('{=html}', '</details>')]
    return '\n\n'.join(f'````{kind}\n{block}\n````' for kind, block in blocks)


def described(cell):
    "The name whose description by nbdev a processed cell is, or None."
    shown = re.search(r'^show_doc\(([\w.]+)\)', text(cell['source']), re.M)
    return shown and shown[1].split('.')[-1]


def with_code(
    processed,  # cells of a processed notebook, where nbdev describes the package's cells
    page,  # the notebook in `nbs/`
):
    "The processed cells; behind each description the code of the cell, which nbdev leaves out."
    left = list(processed)
    out = []
    for cell in cells_of(page):
        source = text(cell['source'])
        if cell['cell_type'] == 'code' and re.search(r'^#\|\s*export', source, re.M):
            names = defined(source)
            descriptions = []
            while left and described(left[0]) in names:
                descriptions.append(left.pop(0))
            out += sorted(descriptions, key=lambda c: names.index(described(c)))
            if names:
                out.append(dict(cell_type='markdown', source=folded(source, names)))
        elif any(c.get('id') == cell.get('id') for c in left):
            while left[0].get('id') != cell.get('id'):
                out.append(left.pop(0))
            out.append(left.pop(0))
    return out + left


def read_page(
    path,  # a processed notebook
    out,  # folder that gets its pictures
) -> Page:
    "Title, Markdown and faults of a processed notebook."
    import yaml

    front, parts, faults = {}, [], []
    for i, cell in enumerate(with_code(cells_of(path), NBS / path.name)):
        source = text(cell['source'])
        if cell['cell_type'] == 'raw' and source.strip().startswith('---'):
            front = yaml.safe_load(source.strip().strip('-')) or {}
        elif cell['cell_type'] == 'markdown':
            parts.append(source)
        elif cell['cell_type'] == 'code':
            parts += code_markdown(cell, f'{path.stem}-{i}', out)
            errors = [o for o in cell.get('outputs', []) if o['output_type'] == 'error']
            for e in errors:
                said = f'{e.get("ename")}: {e.get("evalue", "")[:80]}'
                faults.append(f'{path.name}: cell {i} shows an error ({said})')
    return Page(
        path.name,
        front.get('output-file', f'{path.stem}.html'),
        str(front.get('title', path.stem)),
        str(front.get('description', '')),
        '\n\n'.join(parts),
        faults=faults,
    )


# ---- from Markdown to HTML


def run_pandoc(markdown, *options):
    "HTML of a Markdown text."
    import pypandoc

    command = [pypandoc.get_pandoc_path(), '-f', 'markdown', '-t', 'html5', *options]
    done = subprocess.run(command, input=markdown.encode(), capture_output=True, check=True)
    return done.stdout.decode()


def plain_code(block):  # match of a fenced block
    "A code block without the links that nbdev puts into the comments of signatures."
    return re.sub(r'\[`([^`\n]+)`\]\(https?:[^)\n]+\)', r'\1', block[0])


def to_html(page):
    "The whole HTML of a page, but for its sidebar."
    markdown = re.sub(r'^(`{3,})python\n.*?^\1$', plain_code, page.markdown, flags=re.S | re.M)
    look = [f'--template={TEMPLATE}', '--mathml', '--toc', '--toc-depth=3']
    names = ['-M', f'title={page.title}', '-V', f'line={escape(page.line)}']
    return run_pandoc(markdown, *look, *names)


def local_link(
    match,  # of `href="..."`
    pages,  # {notebook: name of its HTML}
    base,  # address of the published site
):
    "A link between notebooks, or to the published site, as a link between files of this folder."
    url = match[1].removeprefix(base + '/')
    file, hash_, anchor = url.partition('#')
    return f'href="{pages.get(file.removeprefix("./"), file)}{hash_}{anchor}"'


def sidebar_html(
    here,  # `Page` on which it stands
    pages,  # {notebook: its `Page`}
):
    "The sidebar: chapters, and their pages in order."

    def entry(source):
        page = pages[source]
        mark = ' class="here"' if page is here else ''
        return f'<li><a href="{page.name}"{mark}>{escape(page.title)}</a></li>'

    parts = ['<ul>' + entry('index.ipynb') + '</ul>']
    for name, sources in chapters().items():
        items = ''.join(entry(s.name) for s in sources if s.name in pages)
        parts.append(f'<h2>{escape(name)}</h2><ul>{items}</ul>')
    return '\n'.join(parts)


def neighbours(here, pages):
    "Links to the page before and the page after."
    order = [s for s in ['index.ipynb', *(p.name for p in numbered_pages())] if s in pages]
    i = order.index(here.source) if here.source in order else 0
    before = [pages[order[i - 1]]] if i else []
    after = [pages[s] for s in order[i + 1 : i + 2]]
    links = [f'<a href="{p.name}">← {escape(p.title)}</a>' for p in before]
    links += [f'<a class="next" href="{p.name}">{escape(p.title)} →</a>' for p in after]
    return ''.join(links)


def build(
    out,  # folder of the site; made when it is missing
    force=True,  # process pages that did not change as well
) -> dict:
    "Build the site; `{notebook: Page}`."
    from nbdev.config import get_config

    os.chdir(ROOT)
    process(force)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    config = get_config()
    base = config.doc_host + config.doc_baseurl
    pages = {p.name: read_page(p, out) for p in sorted(PROC.glob('*.ipynb'))}
    names = {source: page.name for source, page in pages.items()}
    for page in pages.values():
        html = to_html(page).replace('<!--sidebar-->', sidebar_html(page, pages))
        html = html.replace('<!--neighbours-->', neighbours(page, pages))
        page.html = re.sub(r'href="([^"]*)"', lambda m: local_link(m, names, base), html)
        (out / page.name).write_text(page.html, encoding='utf-8')
    if (NBS / 'images').is_dir():
        shutil.copytree(NBS / 'images', out / 'images', dirs_exist_ok=True)
    return pages


if __name__ == '__main__':
    if len(sys.argv) != 2 or sys.argv[1].startswith('-'):
        sys.exit(__doc__)
    target = Path(sys.argv[1]).resolve()
    built = build(target)
    print(f'{len(built)} pages: open {target / "index.html"}')
