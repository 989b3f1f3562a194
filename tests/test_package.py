"A model leaves its project as a package: of each flavour, and of other libraries; tables of one's own: test_own_data, test_forecast."
import json
from functools import cache

import pytest
from children import FLAVOURS, QUIET, Layer, in_flavours, new_project, tiered

HEAVY = 'torch pytorch_lightning pandas pyarrow mlflow onnx onnxscript scipy sklearn hydra omegaconf papermill nbdev'.split()
ASK = f'import sys; sys.modules.update(dict.fromkeys({HEAVY}))\n' + '''
import json
from mlops_kit.package import load_package
rows, said = json.load(open('rows.json'))
made = load_package('build/ci/package')
got = [o['value'] if 'value' in o else list(o['probability'].values()) for o in made.predict(rows)]
flat = lambda v: [x for y in v for x in flat(y)] if isinstance(v, list) else [v]
print(max(abs(a - b) / max(1, abs(b)) for a, b in zip(flat(got), flat(said), strict=True)))'''
SAY = '''
import json
from hydra.utils import instantiate
from mlops_kit.configs import compose
from mlops_kit.package import arrays_of
from mlops_kit.signature import to_rows
from mlops_kit.train import load_best
cfg = compose(['out=build/ci'])
data, model = instantiate(cfg.data), load_best(cfg.models)
data.setup()
served = instantiate(cfg.package.served)(data, model)
rows = to_rows({k: v[:50] for k, v in arrays_of(served, data).items()}, served.inputs)
json.dump([rows, model.predict(data.encode(data.rows['test'][:50])).tolist()], open('rows.json', 'w'))'''
UNTIDY = '''
import numpy as np, pandas as pd
from hydra.utils import instantiate
from mlops_kit.configs import compose
from mlops_kit.package import load_package
from mlops_kit.train import load_best
from sent.data import spell
names = ['Côte d\\u2019Ivoire', '  San   Marino ', 'Alpha - Beta', 'Saar\\u00adbrücken', 'İZMİR', 'X', '?', '-', '...']
names += ['Co\\u0302te', '\\u03a9, \\u6771\\u4eac', 'a' * 60, 'b ' * 40]
cfg = compose(['out=build/ci'])
data, model = instantiate(cfg.data), load_best(cfg.models)
want = model.predict(data.encode(spell(pd.DataFrame(dict(name=names)))))
got = [list(o['probability'].values()) for o in load_package('build/ci/package').predict([dict(name=n) for n in names])]
np.testing.assert_allclose(got, want, atol=1e-5)'''


def answers_as_its_model(child):
    "Rows as one would send them get the model's answers, where nothing but numpy and onnxruntime can be imported"
    child.python(SAY)
    assert float(child.python(ASK)) < 1e-4
    assert 'Nobody wrote down' not in (child.path / 'build/ci/package/card.md').read_text()


@pytest.fixture(scope='module')
def packaged(kit, wheel, children, tmp_path_factory):
    "Make the project of a flavour, on the first call for it: no stage beside the least ones but `package`, after all its chapters"

    @cache
    def made(flavour):
        env, folder = children(flavour).env, tmp_path_factory.mktemp('packaged')  # with what its data come in
        child = new_project(kit, env, wheel, folder / 'sent', profile='choose', stages='[package]', **FLAVOURS[flavour])
        child.kit('run nbs --set ci')
        return child

    return made


@pytest.mark.parametrize('flavour', [tiered(f) for f in FLAVOURS])
def test_packages_answer_as_the_model(packaged, flavour):
    "The package of the chapter does, and the verb makes it again with the same proof"
    child = packaged(flavour)
    answers_as_its_model(child)
    assert 'from the model on' in child.kit('package out=build/ci').stdout


@pytest.mark.soak
@pytest.mark.parametrize('flavour', [in_flavours['text']])
def test_names_are_tidied_in_the_graph(packaged, flavour):
    "What somebody types is tidied by the graph as the chapter tidies what it learns from"
    packaged(flavour).python(UNTIDY)


OTHER = '''
import os, sys
os.environ['KERAS_BACKEND'] = 'torch'
import numpy as np, pandas as pd
rng = np.random.default_rng(0)
table = pd.DataFrame(dict(size=rng.uniform(20, 200, 300).round(1), age=rng.integers(0, 90, 300), kind=rng.choice(['flat', 'house'], 300)))
table['price'] = np.where(table['size'] - table['age'] + rng.normal(0, 9, 300) > 60, 'dear', 'cheap')
if sys.argv[1] == 'keras': table = table.drop(columns='kind')
table.to_csv('rows.csv', index=False)
x = pd.read_csv('rows.csv').drop(columns='price').astype(dict(size='float32', age='float32'))
if sys.argv[1] == 'keras':
    import keras
    from keras import layers
    model = keras.Sequential([layers.Input((2,)), layers.Rescaling(.01), layers.Dense(8, 'relu'), layers.Dense(1, 'sigmoid')])
    said = model(x.to_numpy()).detach().numpy()[:, 0]
    model.export('m.onnx', format='onnx', verbose=False)
else:
    from skl2onnx import to_onnx
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    columns = make_column_transformer((OneHotEncoder(), ['kind']), remainder='passthrough')
    model = make_pipeline(columns, RandomForestClassifier(20, random_state=0))
    said = model.fit(x, table['price']).predict_proba(x)
    open('m.onnx', 'wb').write(to_onnx(model, x[:1]).SerializeToString())
np.save('said.npy', said), np.save('wrong.npy', said * .9)'''
ADOPT = 'package --onnx m.onnx --contract homes.yaml --table rows.csv'


@pytest.fixture(scope='module')
def others(project_env, tmp_path_factory):
    "An environment with two libraries that write ONNX themselves"
    env = Layer(project_env, tmp_path_factory.mktemp('others') / 'env')
    env.pip('install', '--no-deps', 'skl2onnx==1.20.0', 'keras==3.15.1', 'h5py==3.16.0', 'namex==0.1.0', 'optree==0.20.0', 'absl-py')
    return env


@pytest.mark.full
@pytest.mark.parametrize('library', ['sklearn', pytest.param('keras', marks=pytest.mark.soak)])
def test_other_libraries_are_packaged(others, tmp_path, library):
    "A graph of scikit-learn or Keras becomes a package with the same proof, outside of any project; a wrong one does not"
    others.run('python', '-c', OTHER, library, cwd=tmp_path)
    others.run('mlops-kit', *'data infer rows.csv --target price -o homes.yaml'.split(), cwd=tmp_path)
    wrong = others.run('mlops-kit', *f'{ADOPT} --said wrong.npy'.split(), cwd=tmp_path, ok=False)
    assert (wrong.returncode, 'the graph is not the model' in wrong.stdout, (tmp_path / 'package').exists()) == (1, True, False)
    said = others.run('mlops-kit', *f'{ADOPT} --said said.npy --json'.split(), cwd=tmp_path).stdout
    proof = json.loads(said[said.index('{'):])
    assert proof['parity']['rows'] == 300
    row = {'size': 180.0, 'age': 3, **({'kind': 'flat'} if library == 'sklearn' else {})}
    code = f'from mlops_kit.package import load_package; print(load_package("package").predict([{row}])[0]["probability"])'
    assert set(eval(others.run('python', '-c', code, cwd=tmp_path).stdout)) == {'cheap', 'dear'}


@pytest.mark.parametrize(('words', 'says'), {
    'nothing said': ('package --onnx m.onnx --table rows.csv', '--contract and --said'),
    'no graph': ('package --onnx none.onnx --contract c.yaml --table rows.csv --said said.npy', 'c.yaml')}.values())
def test_what_a_package_lacks_is_named(project_env, tmp_path, words, says):
    "A mistake on the command line is one sentence, and exit code 2"
    done = project_env.run('mlops-kit', *words.split(), cwd=tmp_path, ok=False, env=QUIET)
    assert (done.returncode, says in done.stdout, 'Traceback' in done.stdout) == (2, True, False), done.stdout
