"The page of the rating form, run from top to bottom as a reader of JupyterLab runs it."

import json
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / 'nbs' / '52_user_study.ipynb'
WIDGETS = """
import json
marks = [buttons.model_id for buttons in form.marks.values()]
print(json.dumps([form.next.model_id, *marks]))
"""
ANSWERS = 'print(json.dumps([form.study.read(), form.heading.value, form.error.value]))'


@pytest.fixture
def client():
    nbformat = pytest.importorskip('nbformat')
    nbclient = pytest.importorskip('nbclient')
    page = nbformat.read(PAGE, as_version=4)
    # all cells but the one that writes the package's modules, which other tests import meanwhile
    page.cells = [cell for cell in page.cells if 'nbdev_export()' not in cell.source]
    client = nbclient.NotebookClient(
        page, timeout=300, resources={'metadata': {'path': PAGE.parent}}
    )
    with client.setup_kernel():
        for i, cell in enumerate(page.cells):
            client.execute_cell(cell, i)
        yield client


def printed(client, source):
    "What a new cell at the end of the page prints, as JSON."
    from nbformat.v4 import new_code_cell

    client.nb.cells.append(new_code_cell(source))
    cell = client.execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1)
    return json.loads(cell.outputs[0]['text'])


def browser_says(client, widget, **data):
    "The message that a widget in the browser sends to the kernel."
    session = client.kc.session
    message = session.msg('comm_msg', {'comm_id': widget, 'data': data})
    client.kc.shell_channel.send(message)


def test_run_all_leaves_a_form_that_takes_answers(client):
    views = [
        output['data']['application/vnd.jupyter.widget-view+json']
        for cell in client.nb.cells
        for output in cell.get('outputs', [])
        if 'application/vnd.jupyter.widget-view+json' in output.get('data', {})
    ]
    assert len(views) == 1, 'the page shows one form'
    next_button, *marks = printed(client, WIDGETS)
    for n in range(1, 13):
        for widget in marks:
            browser_says(client, widget, method='update', state={'index': 3}, buffer_paths=[])
        browser_says(client, next_button, method='custom', content={'event': 'click'})
        answers, heading, error = printed(client, ANSWERS)
        assert len(answers) == n and not error
        assert {answers[-1][q] for q in ('sync', 'head', 'real')} == {4}
        assert ('Thank you' if n == 12 else f'Video {n + 1} of 12') in heading
