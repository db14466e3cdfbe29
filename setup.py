"Everything about the package that pip wants to know, read from settings.ini (nbdev reads the same file)."
import shlex
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

root = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(root/'settings.ini', encoding='utf-8')
s = ini['DEFAULT']
def listed(key): return shlex.split(s.get(key, ''), comments=True)
extras = {k.removesuffix('_requirements'): listed(k) for k in s if k.endswith('_requirements')}

setup(
    name=s['lib_name'], version=s['version'], description=s['description'], license='Apache-2.0',
    long_description=(root/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    author=s['author'], author_email=s['author_email'], url=s['git_url'], keywords=s['keywords'],
    python_requires=f">={s['min_python']}", install_requires=listed('requirements'), extras_require=extras,
    packages=find_packages(include=[s['lib_path'], s['lib_path']+'.*']),
    package_data={s['lib_path']: listed('package_data')}, include_package_data=True, zip_safe=False,
    entry_points={'console_scripts': listed('console_scripts'),
                  'nbdev': [f"{s['lib_path']}={s['lib_path']}._modidx:d"]})
