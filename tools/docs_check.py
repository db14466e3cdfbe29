"""Check the docs site as `tools/make_site.py` builds it, without Quarto.

python tools/docs_check.py            builds the site; checks links, anchors, pictures, outputs,
                                      that no text is missing, README.md and the sidebar
python tools/docs_check.py --readme   writes README.md and nbs/sidebar.yml from the pages
"""

import base64
import os
import re
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

root = Path(__file__).resolve().parents[1]
nbs = root / 'nbs'
sys.path.insert(0, str(root / 'tools'))
import make_site  # noqa: E402
from make_site import cells_of, text  # noqa: E402

# ---- README.md out of nbs/index.ipynb


def rooted(md):
    "Links of a page in nbs/ as seen from the top of the repository; code is left alone."
    parts = re.split(r'(```.*?```|`[^`\n]*`)', md, flags=re.S)

    def moved(m):
        return m[1] + (m[2][3:] if m[2].startswith('../') else f'nbs/{m[2]}')

    def fix(part):
        return re.sub(r'(\]\()(?!\w+:|#|/)([^)\s]+)', moved, part)

    return ''.join(p if p.startswith('`') else fix(p) for p in parts)


def readme():
    "What README.md, its pictures and the sidebar must be: {path: bytes}."
    files, out = {}, []
    for c in cells_of(nbs / 'index.ipynb'):
        src = text(c['source']).strip()
        if c['cell_type'] == 'markdown':
            out.append(rooted(src))
            continue
        if c['cell_type'] != 'code' or re.search(r'^#\|\s*(hide|include:\s*false)\s*$', src, re.M):
            continue
        code = re.sub(r'^#\|.*\n?', '', src, flags=re.M).strip()
        if code and not re.search(r'^#\|\s*(echo:\s*false|hide_input)\s*$', src, re.M):
            out.append(f'```python\n{code}\n```')
        for o in c.get('outputs', []):
            d = o.get('data', {})
            if any('widget' in mime for mime in d):
                continue
            if 'text/markdown' in d:
                out.append(rooted(text(d['text/markdown']).strip()))
            elif 'image/png' in d:
                name = f'nbs/images/readme-{len(files)}.png'
                files[name] = base64.b64decode(text(d['image/png']))
                out.append(f'![picture {len(files)} of the index page]({name})')
            elif 'text/html' in d:
                continue  # players do not work in a README, nor do widgets
            elif 'text/plain' in d:
                out.append('```\n' + text(d['text/plain']).strip() + '\n```')
            elif o['output_type'] == 'stream' and o.get('name') == 'stdout':
                out.append('```\n' + text(o['text']).strip() + '\n```')
    head = '<!-- Made from nbs/index.ipynb by tools/docs_check.py --readme; edit that page. -->\n\n'
    files['README.md'] = (head + '\n\n'.join(out) + '\n').encode()
    files['nbs/sidebar.yml'] = make_site.sidebar_yml().encode()
    return files


def readme_faults():
    return [
        f'{n} is out of step with the pages: run python tools/docs_check.py --readme'
        for n, b in readme().items()
        if not (root / n).is_file() or (root / n).read_bytes() != b
    ]


# ---- pages


class Anchors(HTMLParser):
    "Ids, links, pictures and visible text of a page."

    def __init__(self, html):
        super().__init__()
        self.ids, self.links, self.said, self.silent = set(), [], [], 0
        self.feed(html)

    def handle_data(self, data):
        if not self.silent:
            self.said.append(data)

    def handle_endtag(self, tag):
        self.silent -= tag in ('style', 'script', 'nav')

    def handle_starttag(self, tag, attrs):
        self.silent += tag in ('style', 'script', 'nav')
        a = dict(attrs)
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k)}
        self.links += [
            a[k] for k in ('href', 'src') if a.get(k) and tag in ('a', 'img', 'source', 'video')
        ]


def broken(name, links, pages, sources, base, out):
    "Links of a page that lead nowhere."
    for link in links:
        url = (
            unquote(link.removeprefix(base)).removeprefix('/')
            if link.startswith(base)
            else unquote(link)
        )
        if re.match(r'[a-z]+:', url, re.I):
            continue
        file, _, anchor = url.partition('#')
        file = sources.get(file.removeprefix('./'), file) or name
        if file in pages:
            if anchor and anchor not in pages[file].ids:
                yield f'{name}: no anchor {link}'
        elif not any((p / file).exists() for p in (out, nbs)):
            yield f'{name}: no file {link}'


def triples(prose):
    "All runs of three words."
    words = re.findall(r'[A-Za-z]{2,}', prose)
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}


def prose_of(source):
    "Paragraphs of a Markdown cell without code, formulas and addresses."
    source = re.sub(r'```.*?```|\$\$.*?\$\$', '', source, flags=re.S)
    source = re.sub(r'\]\([^)]*\)|\$[^$\n]+\$|<[^>]+>', ' ', source)
    return re.split(r'\n\s*\n', source)


def missing(
    source,  # notebook in nbs/
    html,  # `Anchors` of its page on the site
):
    "Paragraphs of a notebook that a reader of the site does not see."
    seen = triples(' '.join(html.said))
    for i, cell in enumerate(cells_of(source)):
        for part in prose_of(text(cell['source'])) if cell['cell_type'] == 'markdown' else []:
            want = triples(part)
            if len(want) > 3 and len(want & seen) < len(want) / 2:
                yield f'{source.name}: cell {i} is not on the site: {" ".join(part.split())[:70]}'


def why(e):
    "The lines of a worker's traceback that name an error."
    lines = re.findall(r'^\w*(?:Error|Exception)\b.*', str(e.__cause__ or ''), re.M)
    return f'\n  ({lines[0]})' if lines else ''


def same_names(pages):
    "Pages whose HTML would have one name."
    names = [p.name for p in pages.values()]
    return [f'two pages are called {n}' for n in sorted(set(names)) if names.count(n) > 1]


def site_faults(out):
    "Build the site in the folder `out` and list what is wrong with it."
    from nbdev.config import get_config

    pages = make_site.build(out)
    config = get_config()
    base = config.doc_host + config.doc_baseurl
    faults = [f for p in pages.values() for f in p.faults] + same_names(pages)
    made = {p.name: Anchors(p.html) for p in pages.values()}
    sources = {source: p.name for source, p in pages.items()}
    for name, html in made.items():
        faults += broken(name, html.links, made, sources, base, out)
    for source in [nbs / 'index.ipynb', *make_site.numbered_pages()]:
        if source.name in sources:
            faults += missing(source, made[sources[source.name]])
        else:
            faults.append(f'{source.name} is not on the site')
    print(len(made), 'pages,', sum(len(h.links) for h in made.values()), 'links and pictures')
    return faults


def check():
    "All faults of the site, README.md and the sidebar."
    os.chdir(root)
    with tempfile.TemporaryDirectory() as tmp:
        try:
            faults = site_faults(Path(tmp))
        except Exception as e:
            faults = [f'the site cannot be built: {e}{why(e)}']
    for page in nbs.rglob('*.ipynb'):
        if page.stat().st_size > 600 << 10:
            print(f'heavy: {page.name}, {page.stat().st_size >> 10} KiB')
    return faults + readme_faults()


if __name__ == '__main__':
    if '--readme' in sys.argv:
        for n, b in readme().items():
            (root / n).parent.mkdir(parents=True, exist_ok=True)
            (root / n).write_bytes(b)
    else:
        faults = check()
        print('\n'.join(faults) or 'docs: no fault')
        sys.exit(bool(faults))
