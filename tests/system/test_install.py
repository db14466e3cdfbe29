"What an installation must hold: one release of OpenCV that works, and lazy names of the package."

import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest


def opencv_packages():
    "`{name: version}` of the installed packages that own the folder `cv2`."
    found = {d.metadata['Name'].lower(): d.version for d in distributions()}
    return {name: version for name, version in found.items() if name.startswith('opencv-')}


def declared(key):
    "Names of the packages that a list of settings.ini asks for."
    ini = ConfigParser(delimiters=['='])
    ini.read(Path(__file__).resolve().parents[2] / 'settings.ini', encoding='utf-8')
    return {re.match(r'[\w-]+', entry)[0] for entry in ini['DEFAULT'][key].split()}


def test_packages_are_declared_where_they_are_needed():
    use = 'torch pocketsphinx ipywidgets matplotlib fastcore opencv-python-headless'
    assert set(use.split()) <= declared('requirements')
    work = 'jupyterlab nbdev torchaudio pytest playwright ruff'
    assert set(work.split()) <= declared('dev_requirements')


def test_packages_that_own_cv2_are_of_one_release():
    versions = opencv_packages()
    assert versions, 'no package of OpenCV is installed'
    assert len(set(versions.values())) == 1, f'{versions}: reinstall one with the other removed'
    assert all(v.startswith('4.') for v in versions.values())


def test_cv2_works():
    import cv2

    faces = cv2.CascadeClassifier(cv2.data.haarcascades + 'haarcascade_frontalface_default.xml')
    assert not faces.empty()
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    stored = cv2.imencode('.png', image)[1]
    assert (cv2.imdecode(stored, cv2.IMREAD_COLOR) == image).all()
    assert cv2.resize(image, (24, 16), interpolation=cv2.INTER_AREA).shape == (16, 24, 3)


def test_package_is_lazy():
    code = "import sys, talkface; print('torch' in sys.modules, talkface.__version__)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == 'False'


def test_every_public_name_is_there():
    import talkface

    for name in talkface.__all__:
        assert getattr(talkface, name) is not None, name
    assert talkface.Animator.__module__ == 'talkface.animate'
    with pytest.raises(AttributeError, match='nothing_here'):
        talkface.nothing_here
