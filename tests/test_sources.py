"Tables from real stores and databases: the same rows, no password anywhere, and one clear sentence when it does not work."
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from children import Layer, new_project
from helpers import ROOT, sh
from servers import PASSWORD
from tables import rows

from mlops_kit.data import fingerprint, from_sql, read_batches, read_table
from mlops_kit.project import InputError

pytestmark = pytest.mark.xdist_group('sources')
FORMATS = {'rows.parquet': 'to_parquet', 'rows.csv': 'to_csv', 'rows.csv.gz': 'to_csv', 'rows.xlsx': 'to_excel', 'rows.jsonl': 'to_json'}
MORE = {'to_csv': {'index': False}, 'to_excel': {'index': False}, 'to_json': {'orient': 'records', 'lines': True}}


def flats(n=300): return rows(n).assign(sold=pd.date_range('2013-01-01', periods=n).astype('datetime64[us]'))


def said_by(words, cwd, **env):
    "Exit code and output of mlops-kit"
    words = words.split() if isinstance(words, str) else words
    done = sh([Path(sys.executable).with_name('mlops-kit'), *words], cwd=cwd, ok=False, env=env)
    assert 'Traceback' not in done.stdout, done.stdout
    return done.returncode, done.stdout


def test_every_format_from_s3(s3, tmp_path):
    "A table in a store is the table it was, in every format, whole and in pieces"
    frame = flats()
    for name, method in FORMATS.items():
        kw = {**MORE.get(method, {}), **({'date_format': 'iso'} if method == 'to_json' else {})}
        getattr(frame, method)(tmp_path / name, **kw)
        s3.upload_file(str(tmp_path / name), 'shop', name)
    assert {n: fingerprint(read_table(f's3://shop/{n}')) for n in FORMATS} == dict.fromkeys(FORMATS, fingerprint(frame))
    pieces = list(read_batches('s3://shop/rows.parquet', rows=100))
    assert [len(p) for p in pieces] == [100, 100, 100]
    assert fingerprint(pieces) == fingerprint(frame)


def test_check_in_a_store(s3, tmp_path):
    "`mlops-kit data infer` and `data check` take a URL; a broken rule is exit code 1"
    for name, frame in {'old': flats(), 'new': flats().assign(area=-1.)}.items():
        s3.put_object(Bucket='shop', Key=f'{name}.parquet', Body=frame.to_parquet())
    assert said_by('data infer s3://shop/old.parquet --target price -o c.yaml', tmp_path)[0] == 0
    assert said_by('data check s3://shop/old.parquet c.yaml', tmp_path)[0] == 0
    code, said = said_by('data check s3://shop/new.parquet c.yaml --json', tmp_path)
    assert (code, [(b['column'], b['check'], b['rows']) for b in json.loads(said)]) == (1, [('area', '>= 0.0', 300)])


@pytest.mark.parametrize(('url', 'says'), [('s3://shop/none.csv', 'no file s3://shop/none.csv'), ('s3://nobody/x.parquet', 'no file s3://nobody'),
                                       ('s3://ann:pw@shop/x.csv', 'password'), ('s3://shop/torn.parquet', 'not a readable Parquet')])
def test_what_s3_refuses(s3, tmp_path, url, says):
    "What cannot be read is one sentence and exit code 2"
    s3.put_object(Bucket='shop', Key='torn.parquet', Body=flats().to_parquet()[:500])
    code, said = said_by(f'data infer {url}', tmp_path)
    assert (code, says in said, len(said.strip().splitlines())) == (2, True, 1), said


def test_store_without_credentials(s3, tmp_path):
    "Without credentials it says so, soon"
    env = {'AWS_ACCESS_KEY_ID': '', 'AWS_SECRET_ACCESS_KEY': '', 'AWS_EC2_METADATA_DISABLED': 'true', 'HOME': str(tmp_path)}
    code, said = said_by('data infer s3://shop/rows.csv', tmp_path, **env)
    assert (code, 'credentials' in said) == (2, True), said


@pytest.fixture
def shop(postgres, monkeypatch):
    "A database with a table, whose address is in DATABASE_URL"
    from sqlalchemy import create_engine, text
    engine = create_engine(postgres)
    with engine.begin() as c:
        flats().to_sql('flats', c, index=False, if_exists='replace')
        c.execute(text('DROP TABLE IF EXISTS kinds'))
        c.execute(text("""CREATE TABLE kinds AS SELECT n AS id, (n*1.5)::numeric(9,2) AS price, gen_random_uuid() AS code, n%2=0 AS ok,
            CASE WHEN n>1 THEN n END AS gap, DATE '2013-01-01'+n AS day, now() AS at, 'x' AS word FROM generate_series(1, 9) n"""))
    engine.dispose()
    monkeypatch.setenv('DATABASE_URL', postgres)
    return postgres


@pytest.mark.full
def test_table_from_postgres(shop):
    "A table comes back as it went; numbers, truths, dates, gaps and codes have their types"
    assert fingerprint(from_sql('SELECT * FROM flats')) == fingerprint(flats())
    assert len(from_sql('SELECT * FROM flats WHERE sold<:day', params={'day': '2013-01-11'})) == 10
    kinds = from_sql('SELECT * FROM kinds')
    assert [str(t) for t in kinds.dtypes] == ['int64', 'float64', 'str', 'bool', 'float64', *['datetime64[us]'] * 2, 'str']


@pytest.mark.full
@pytest.mark.parametrize('query', ['DELETE FROM flats RETURNING *', 'DROP TABLE flats'])
def test_source_is_not_written(shop, query):
    "A query that would write is refused by the database"
    with pytest.raises(InputError, match='read-only'): from_sql(query)
    assert len(from_sql('SELECT * FROM flats')) == 300


@pytest.mark.full
@pytest.mark.parametrize(('change', 'query', 'says'), [
    ((PASSWORD, 'wrong-guess'), 'SELECT 1', 'password authentication failed'),
    (('127.0.0.1', 'nowhere.invalid'), 'SELECT 1', 'nowhere.invalid'),
    (('', ''), 'SELECT prise FROM flats', 'column "prise" does not exist'), (('postgresql', 'oracle'), 'SELECT 1', 'oracledb')])
def test_what_postgres_refuses(shop, tmp_path, change, query, says):
    "What goes wrong is one sentence, which never holds the password"
    code, said = said_by(['data', 'infer', '--query', query], tmp_path, DATABASE_URL=shop.replace(*change))
    assert (code in (2, 3), says in said, len(said.strip().splitlines())) == (True, True, 1), said
    assert not [word for word in (PASSWORD, 'wrong-guess') if word in said]


@pytest.fixture(scope='module')
def project(kit, project_env, wheel, tmp_path_factory):
    "A project on a table of flats, in an environment with the extras for both kinds of source"
    folder = tmp_path_factory.mktemp('sources')
    (folder / 'rows.csv').write_text(flats().to_csv(index=False))
    child = new_project(kit, project_env, wheel, folder / 'own', '--data', folder / 'rows.csv', '--target', 'price')
    child.env = Layer(project_env, folder / 'env')
    child.run('python', '-m', 'pip', 'install', '-q', '-c', ROOT / 'constraints.txt', f'{wheel}[s3,postgres]')
    return child


@pytest.mark.full
def test_project_reads_a_database(project, shop):
    "`data/source=sql` gives the chapters the database's table, and the password is in no file of the project"
    words = 'run nbs/00_data.ipynb --set ci data/source=sql'
    project.kit(words, 'data.source.query="SELECT * FROM flats WHERE rooms>1"')
    made = pd.read_parquet(project.path / 'build/ci/data/table.parquet')
    assert (0 < len(made) < 300, made.rooms.min()) == (True, 2)
    project.kit('data check data/source=sql', 'data.source.query="SELECT * FROM flats"')
    written = [f for f in project.path.rglob('*') if f.is_file() and PASSWORD.encode() in f.read_bytes()]
    assert not written


@pytest.mark.full
def test_project_reads_a_store(project, s3):
    "`data.source.path` may be a URL"
    s3.put_object(Bucket='shop', Key='flats.parquet', Body=flats(200).to_parquet())
    project.kit('run nbs/00_data.ipynb --set ci data.source.path=s3://shop/flats.parquet')
    assert len(pd.read_parquet(project.path / 'build/ci/data/table.parquet')) == 200
