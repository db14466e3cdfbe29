"""Check the docs pages without Quarto, through pandoc (the engine inside it).

python tests/docs_check.py            renders every page, checks links, anchors, pictures and outputs, and README.md
python tests/docs_check.py --readme   writes README.md from nbs/index.ipynb
"""
import base64, json, os, re, subprocess, sys, tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

root = Path(__file__).resolve().parents[1]
nbs, proc = root/'nbs', root/'_proc'
text = lambda s: ''.join(s) if isinstance(s, list) else s or ''

# ---- README.md out of nbs/index.ipynb

def rooted(md):
    "Links of a page in nbs/ as seen from the top of the repository; code is left alone."
    parts = re.split(r'(```.*?```|`[^`\n]*`)', md, flags=re.S)
    fix = lambda s: re.sub(r'(\]\()(?!\w+:|#|/)([^)\s]+)', lambda m: m[1] + (m[2][3:] if m[2].startswith('../') else f'nbs/{m[2]}'), s)
    return ''.join(p if p.startswith('`') else fix(p) for p in parts)

def readme():
    "What README.md and its pictures must be: {path: bytes}."
    files, out = {}, []
    for i, c in enumerate(json.loads((nbs/'index.ipynb').read_text(encoding='utf-8'))['cells']):
        src = text(c['source']).strip()
        if c['cell_type'] == 'markdown': out.append(rooted(src)); continue
        if c['cell_type'] != 'code' or re.search(r'^#\|\s*(hide|include:\s*false)\s*$', src, re.M): continue
        code = re.sub(r'^#\|.*\n?', '', src, flags=re.M).strip()
        if code and not re.search(r'^#\|\s*(echo:\s*false|hide_input)\s*$', src, re.M): out.append(f'```python\n{code}\n```')
        for k, o in enumerate(c.get('outputs', [])):
            d = o.get('data', {})
            if any('widget' in mime for mime in d): continue
            if 'text/markdown' in d: out.append(rooted(text(d['text/markdown']).strip()))
            elif 'image/png' in d:
                name = f'nbs/images/readme-{len(files)}.png'
                files[name] = base64.b64decode(text(d['image/png']))
                out.append(f'![picture {len(files)} of the index page]({name})')
            elif 'text/html' in d: continue            # players do not work in a README, nor do widgets
            elif 'text/plain' in d: out.append('```\n' + text(d['text/plain']).strip() + '\n```')
            elif o['output_type'] == 'stream' and o.get('name') == 'stdout': out.append('```\n' + text(o['text']).strip() + '\n```')
    head = '<!-- Made from nbs/index.ipynb by tests/docs_check.py --readme; edit that page. -->\n\n'
    return {'README.md': (head + '\n\n'.join(out) + '\n').encode(), **files}

def readme_faults():
    return [f'{n} is out of step with nbs/index.ipynb: run python tests/docs_check.py --readme' for n, b in readme().items()
            if not (root/n).is_file() or (root/n).read_bytes() != b]

# ---- pages

def process():
    "nbdev's own steps up to the pages in _proc/ (its commands would look for Quarto)."
    os.environ.setdefault('PYTHONWARNINGS', 'ignore')      # for the processes that run cells
    import nbdev.doclinks
    from nbdev.config import get_config
    from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
    from nbdev.serve import proc_nbs
    refresh_quarto_yml()
    nbdev.doclinks._build_modidx()
    nbdev_sidebar.__wrapped__()
    proc_nbs(get_config().nbs_path, n_workers=2, force=True)

def shown(c, where, files):
    "The Markdown of a code cell as a reader sees it."
    src = text(c['source'])
    opts = dict(re.findall(r'^#\|\s*([\w-]+):\s*(.+?)\s*$', src, re.M))
    code = re.sub(r'^#\|.*\n?', '', src, flags=re.M).rstrip()
    if opts.get('include') == 'false': return
    if code.strip() and opts.get('echo') != 'false': yield f'````python\n{code}\n````'
    if opts.get('output') == 'false': return
    for k, o in enumerate(c.get('outputs', [])):
        d = o.get('data', {})
        if 'text/markdown' in d: yield text(d['text/markdown'])
        elif 'image/png' in d:
            f = files/f'{where}-{k}.png'
            f.write_bytes(base64.b64decode(text(d['image/png'])))
            yield f'![]({f.name})'
        elif 'text/html' in d: yield '````{=html}\n' + text(d['text/html']) + '\n````'
        elif o['output_type'] == 'stream' or 'text/plain' in d: yield '````\n' + text(o.get('text') or d.get('text/plain')) + '\n````'

class Anchors(HTMLParser):
    "Ids, links and pictures of a page."
    def __init__(self, html):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(html)
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k)}
        self.links += [a[k] for k in ('href', 'src') if a.get(k) and tag in ('a', 'img', 'source', 'video')]

def page(path, out):
    "(html name, Markdown) of one processed notebook, and its faults."
    nb, front, md, bad = json.loads(path.read_text(encoding='utf-8')), {}, [], []
    import yaml
    for i, c in enumerate(nb['cells']):
        src, kind = text(c['source']), c['cell_type']
        if kind == 'raw' and src.strip().startswith('---'): front = yaml.safe_load(src.strip().strip('-')) or {}
        elif kind == 'markdown': md.append(src)
        elif kind == 'code':
            bad += [f'{path.name}: cell {i} shows an error ({o.get("ename")}: {o.get("evalue", "")[:80]})' for o in c.get('outputs', []) if o['output_type'] == 'error']
            md += shown(c, f'{path.stem}-{i}', out)
    return front.get('output-file', path.stem + '.html'), front.get('title', path.stem), '\n\n'.join(md), bad

def render(md, title):
    import pypandoc
    cmd = [pypandoc.get_pandoc_path(), '-f', 'markdown', '-t', 'html5', '-s', '--mathml', '-M', f'title={title}']
    return subprocess.run(cmd, input=md.encode(), capture_output=True, check=True).stdout.decode()

def broken(name, links, pages, sources, base, out):
    "Links of a page that lead nowhere."
    for link in links:
        url = unquote(link.removeprefix(base)).removeprefix('/') if link.startswith(base) else unquote(link)
        if re.match(r'[a-z]+:', url, re.I): continue
        file, _, anchor = url.partition('#')
        file = sources.get(file.removeprefix('./'), file) or name
        if file in pages:
            if anchor and anchor not in pages[file].ids: yield f'{name}: no anchor {link}'
        elif not any((p/file).exists() for p in (out, nbs)): yield f'{name}: no file {link}'

def why(e):
    "The lines of a worker's traceback that name an error."
    lines = re.findall(r'^\w*(?:Error|Exception)\b.*', str(e.__cause__ or ''), re.M)
    return f'\n  ({lines[0]})' if lines else ''

def check():
    from nbdev.config import get_config
    os.chdir(root)
    try: process()
    except Exception as e: return [f'a page cannot be processed: {e}{why(e)}']
    cfg = get_config()
    base, faults, made, sources = cfg.doc_host + cfg.doc_baseurl, [], {}, {}
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp)
        for f in sorted(proc.rglob('*.ipynb')):
            name, title, md, bad = page(f, out)
            faults += bad + ([f'{f.name}: another page is called {name} too'] if name in made else [])
            made[name], sources[f.name] = Anchors(render(md, title)), name
        for name, p in made.items(): faults += broken(name, p.links, made, sources, base, out)
    links = sum(len(p.links) for p in made.values())
    heavy = [f'{f.name} {f.stat().st_size >> 10} KiB' for f in sorted(nbs.rglob('*.ipynb')) if f.stat().st_size > 600 << 10]
    print(f'{len(made)} pages, {links} links and pictures' + (f'; heavy: {", ".join(heavy)}' if heavy else ''))
    return faults + readme_faults()

if __name__ == '__main__':
    if '--readme' in sys.argv:
        for n, b in readme().items():
            (root/n).parent.mkdir(parents=True, exist_ok=True)
            (root/n).write_bytes(b)
    else:
        faults = check()
        print('\n'.join(faults) or 'docs: no fault')
        sys.exit(bool(faults))
