"A series of one's own is forecast, or refused by the row that is in the way."
import numpy as np
import pandas as pd
import pytest
from children import CHAPTERS, new_project
from test_package import answers_as_its_model


def months(n=120):
    "Ten years of a shop that grows and has a summer"
    rng, at = np.random.default_rng(0), np.arange(n)
    sold = 200 + 1.5 * at + 60 * np.sin(at * np.pi / 6) + rng.normal(0, 12, n)
    return pd.DataFrame({'month': pd.date_range('2012-01-01', periods=n, freq='MS'), 'sold': sold.round(1), 'shop': 'Ulm'})


FILES = {
    'no time': (lambda d: d.drop(columns='month'), 'no column of dates says when (columns: sold, shop)'),
    'odd time': (lambda d: d.assign(month=d.month.astype(str).where(d.index != 7, 'soon')), '"month" has \'soon\' in row 7'),
    'two times': (lambda d: d.assign(due=d.month), '2 columns are dates, month and due'),
    'no number': (lambda d: d.assign(sold=d.sold.astype(object).where(d.index != 3, 'closed')), "row 3 has 'closed'"),
    'too short': (lambda d: d[:30], '30 values, one every 1 month, are too few for a season of 12: 36 are the least'),
    'two shops': (lambda d: pd.concat([d, d.assign(shop='Bonn')]), 'rows 0 and 120 are both of 2012-01-01'),
    'a gap': (lambda d: d.drop(50), 'row 50, 2016-04-01, comes 2 months after')}


@pytest.mark.parametrize('name', FILES)
def test_hopeless_series_is_refused(tmp_path, name):
    "What cannot be forecast is refused before anything is made, with the row that is in the way"
    from mlops_kit.project import InputError
    from mlops_kit.scaffold import own_data
    change, says = FILES[name]
    change(months()).to_csv(tmp_path / 'shop.csv', index=False)
    with pytest.raises(InputError) as e: own_data(tmp_path / 'shop.csv', 'sold', 'forecast')
    assert says in str(e.value)


@pytest.mark.soak
def test_own_series_works(kit, project_env, wheel, tmp_path):
    "`mlops-kit new -d task=forecast --data FILE --target COLUMN`: step and season are found, and every chapter passes"
    months().sample(frac=1, random_state=0).to_csv(tmp_path / 'shop.csv', index=False)
    words = '--data', tmp_path / 'shop.csv', '--target', 'sold'
    child = new_project(kit, project_env, wheel, tmp_path / 'own', *words, task='forecast', profile='full')
    assert 'step: 1 month\nseasons:\n- 12\n' in (child.path / 'contracts/series.yaml').read_text()
    child.kit('run nbs --set ci')
    assert {n: r['status'] for n, r in child.records().items() if n in CHAPTERS} == dict.fromkeys(CHAPTERS, 'passed')
    answers_as_its_model(child)
