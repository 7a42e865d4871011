import json

import numpy as np
import pandas as pd
import pytest

from mmbench.api import CohortError, Column, Schema
from mmbench.generators.joint_ldm.codec import TableCodec


def test_the_codec_returns_every_training_value_exactly(kit):
    table = kit.people(80)
    codec = TableCodec.fit(table, kit.SCHEMA)
    encoded = codec.encode(table, np.random.default_rng(0).random((80, len(kit.SCHEMA))))
    # As certain decoder outputs: one-hot vectors and missingness bits become large logits.
    decoded = []
    for entry, array in zip(codec.fields, encoded, strict=True):
        output = array.copy()
        output[:, -1] = 100 * (2 * array[:, -1] - 1)
        if not entry.ordered:
            output[:, :-1] *= 100
        decoded.append(output)
    result = codec.decode(decoded, np.random.default_rng(1).random((80, len(kit.SCHEMA), 2)))
    pd.testing.assert_frame_equal(result, table, check_exact=False, rtol=0, atol=1e-9)


def test_normal_scores_are_normal_even_where_values_are_heaped():
    schema = Schema((Column("units", "integer"),))
    heaped = pd.DataFrame({"units": np.r_[np.zeros(600), np.arange(1, 401)]})
    codec = TableCodec.fit(heaped, schema)
    scores = codec.encode(heaped, np.random.default_rng(0).random((1000, 1)))[0][:, 0]
    assert scores.mean() == pytest.approx(0, abs=0.1)
    assert scores.std() == pytest.approx(1, abs=0.1)
    assert len(np.unique(scores)) == len(scores)


def test_the_codec_survives_json(kit):
    table = kit.people(40)
    codec = TableCodec.fit(table, kit.SCHEMA)
    again = TableCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
    uniform = np.random.default_rng(2).random((10, len(kit.SCHEMA), 2))
    outputs = [np.random.default_rng(0).standard_normal((10, f.width + 1)) for f in codec.fields]
    pd.testing.assert_frame_equal(again.decode(outputs, uniform), codec.decode(outputs, uniform))


def test_a_column_without_any_value_is_refused():
    schema = Schema((Column("age", "integer", missing=True), Column("bmi", "continuous")))
    table = pd.DataFrame({"age": [np.nan, np.nan], "bmi": [20.0, 30.0]})
    with pytest.raises(CohortError, match="column 'age': every training value is missing"):
        TableCodec.fit(table, schema)
