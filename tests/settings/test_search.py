"""Search spaces: those of all heads are valid, and an invalid range is refused with its key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.config import compose
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.base import Builder, to_plain
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import HEADS, EaseSettings, FusionSettings, ItemKnnSettings, ModelConfig, TwoTowerSettings
from llmrec_cli.settings.heads.base import RangeSettings
from llmrec_cli.settings.loss import BceSettings, SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.search import (
    flat_search,
    places,
    proposal,
    search_problems,
    search_space,
    tuned_parts,
    with_values,
    without_search,
)
from tests.some_slow import some_slow

TUNED = [name for name in HEADS if name != "fusion"]
SPACES = {name: compose("finetune", [f"head={name}"]).config for name in TUNED}
TOWER = {"encoder": None, "peft": None, "adversarial": None, "loss": SoftmaxSettings(), "optim": AdamWSettings()}


def problems(*typed):
    with pytest.raises(ConfigError) as error:
        compose("finetune", list(typed))
    return error.value.problems


@pytest.mark.parametrize("head", ["content", "two_tower", "sequential"])
def test_whitening_of_the_encoder_can_be_tuned(head):
    config = compose("finetune", ["tune.trials=2", f"head={head}",
                                  "head.search.encoder.whitening={choices: [0, 0.25, 0.5, 0.75]}"]).config
    assert "encoder.whitening" in search_space(config)
    changed, wrong = with_values(config, {"encoder.whitening": 0.5})
    assert (changed.encoder.whitening, wrong) == (0.5, [])


def search_of(*typed):
    return compose("finetune", ["tune.trials=2", *typed]).head.search


# --- search spaces of the heads

@pytest.mark.parametrize("name", TUNED)
def test_every_tunable_setting_exists_and_both_ends_of_its_range_are_valid(name):
    config = SPACES[name]
    assert list(search_problems(config)) == []
    # True for the default options; other options may lack some settings.
    assert search_space(config).keys() == config.head.search.keys()


@pytest.mark.parametrize("name", TUNED)
def test_defaults_lie_within_the_tuning_ranges_and_choices(name):
    config = SPACES[name]
    for key, tried in config.head.search.items():
        value = places(config)[key].value(config)
        if value is None:  # A default that depends on the data or the head.
            continue
        if tried.choices is not None:
            assert value in tried.choices, key
        else:
            assert tried.low <= value <= tried.high, key


@pytest.mark.parametrize("name", some_slow([name for name in TUNED if SPACES[name].head.search], 8, 4))
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_draw_from_a_search_space_gives_valid_settings(name, data):
    config = SPACES[name]
    values = {}
    for key, tried in config.head.search.items():
        if tried.choices is not None:
            values[key] = data.draw(st.sampled_from(tried.choices), key)
        elif places(config)[key].is_whole:
            values[key] = data.draw(st.integers(int(tried.low), int(tried.high)), key)
        else:
            values[key] = data.draw(st.floats(tried.low, tried.high), key)
    values = proposal(config, values)
    changed, messages = with_values(config, values)
    assert messages == []
    assert {key: places(changed)[key].value(changed) for key in values} == values


# --- ranges on the command line

def test_one_end_of_a_range_is_changed_and_a_range_is_taken_out_by_its_key():
    before = search_of("head=two_tower")
    after = search_of("head=two_tower", "head.search.dropout.high=0.4", "head.search.optim.learning_rate.low=0.002",
                      "head.search.id_scale=null", "head.search.loss=null")
    assert after.keys() == before.keys() - {"id_scale", "loss.temperature"}
    assert (after["dropout"].low, after["dropout"].high) == (before["dropout"].low, 0.4)
    rate = before["optim.learning_rate"]
    assert after["optim.learning_rate"] == RangeSettings(0.002, rate.high, rate.log)


def test_a_range_is_added_whole_or_an_end_at_a_time_also_to_a_member():
    added = search_of("head=item_knn", "head.search={}", "head.search.k1={low: 1, high: 2}",
                      "head.search.weighting.choices=[none, bm25]", "head.search.shrinkage.low=1",
                      "head.search.shrinkage.high=5", "head.search.shrinkage.log=true")
    assert added["k1"] == RangeSettings(1, 2)
    assert added["weighting"] == RangeSettings(choices=["none", "bm25"])
    assert added["shrinkage"] == RangeSettings(1, 5, True)
    fusion = compose("finetune", ["tune.trials=2", "head.members.ease.search.features.text={low: 1, high: 9}"]).head
    assert fusion.members["ease"].head.search["features.text"] == RangeSettings(1, 9)


@pytest.mark.parametrize(("typed", "expected"), [
    (["head.search.l3={low: 1, high: 2}"], "head.search.l3: head=ease has no such setting (did you mean 'l2'?)"),
    (["head.search.features.txt={low: 1, high: 2}"],
     "head.search.features.txt: head=ease has no such setting (did you mean 'features.text'?)"),
    (["head.search.optim.epochs={low: 1, high: 2}"], "head.search.optim.epochs: head=ease has no such setting"),
    (["head.search.search={choices: [1]}"], "head.search.search: head=ease has no such setting"),
    (["head.search.l2={low: -1, high: 2}"], "head.search.l2.low=-1: must be above 0"),
    (["head.search.features.text={low: 3, high: 1}"],
     "head.search.features.text.low=3.0, high=1.0: give both, high above low, or choices=[...]"),
    (["head.search.features.text={low: 0, high: 1, log: true}"],
     "head.search.features.text.low=0.0: must be above 0 with log=true"),
    (["head.search.features.text={lo: 0, high: 1}"], "head.search.features.text.lo: unknown key (did you mean 'low'?)"),
    (["head.search.l2=7"], "head.search.l2=7: expected a mapping of settings"),
    (["head.search.l2.choices=[1,x]"], "head.search.l2.choices=x: expected a number"),
    (["head=item_knn", "head.search.k={low: 1.5, high: 9}"], "head.search.k.low=1.5: expected a whole number"),
    (["head=item_knn", "head.search.k={low: 0, high: 9}"], "head.search.k.low=0: must be at least 1"),
    (["head=item_knn", "head.search.neighbours_of={low: 1, high: 2}"],
     "head.search.neighbours_of: is not a number; give choices=[...] instead of low and high"),
    (["head=item_knn", "head.search.weighting.choices=[none,bm52]"],
     "head.search.weighting.choices=bm52: choose one of none, tfidf, bm25 (did you mean 'bm25'?)"),
    (["head=fusion", "head.search.l2={low: 1, high: 2}"],
     "head.search.l2: a fusion is tuned through its members; give the range to one of them, "
     "head.members.<name>.search.<setting>"),
    (["head=fusion", "head.members.ease.search.l2={low: -1, high: 2}"],
     "head.members.ease.search.l2.low=-1: must be above 0"),
])
def test_an_invalid_range_is_refused_with_its_key(typed, expected):
    head = [] if typed[0].startswith("head=") else ["head=ease"]
    messages = problems(*head, "tune.trials=2", *typed)
    assert [p for p in messages if p.startswith(expected)], messages


@pytest.mark.parametrize(("typed", "expected"), [
    (["tune.trials=-1"], "tune.trials=-1: must be at least 0"),
    (["tune.trials=many"], "tune.trials=many: expected a whole number"),
    (["tune.trials=2", "tune.timeout_s=0"], "tune.timeout_s=0.0: must be above 0"),
    (["tune.trials=2", "tune.num_startup=0"], "tune.num_startup=0: must be at least 1"),
    (["tune.trails=2"], "tune.trails: unknown key (did you mean 'trials'?)"),
    (["tune.timeout_s=60"], "tune.timeout_s=60.0: has no effect without tuning; set tune.trials=<number>"),
    (["tune.pruning=false"], "tune.pruning=false: has no effect without tuning; set tune.trials=<number>"),
    (["head.search.l2.high=900"], "head.search.l2.high=900: has no effect without tuning; set tune.trials=<number>"),
    (["tune.trials=0", "head.search.l2.high=900"], "head.search.l2.high=900: has no effect without tuning"),
    (["head=ease", "tune.trials=2", "head.search.l2={low: 1, high: 2}", "tune.pruning=false"],
     "tune.pruning=false: has no effect, since head=ease is not trained by epochs"),
    (["head=popularity", "head.search.window=null", "head.search.trend=null", "tune.trials=2"],
     "tune.trials=2: head=popularity cannot be tuned, since its search space is empty; give a range, "
     "head.search.<setting>="),
])
def test_a_setting_of_tuning_that_is_wrong_or_of_no_use_is_refused(typed, expected):
    messages = problems(*(typed if typed[0].startswith("head=") else ["head=ease", *typed]))
    assert [p for p in messages if p.startswith(expected)], messages


# --- the functions

def test_proposed_values_without_effect_are_replaced_by_defaults():
    config = ModelConfig(head=ItemKnnSettings(weighting="bm25", k1=3.0))
    assert proposal(config, {"weighting": "bm25", "k1": 2.0, "k": 7}) == {"weighting": "bm25", "k1": 2.0, "k": 7}
    assert proposal(config, {"weighting": "none", "k1": 2.0, "k": 7}) == {"weighting": "none", "k1": 1.2, "k": 7}
    plain = ModelConfig(head=ItemKnnSettings(search={"k1": RangeSettings(1, 2)}))
    assert list(search_problems(plain)) == []


def test_dots_in_keys_and_mappings_are_the_same_and_the_later_wins():
    assert flat_search({"features.text": {"low": 0, "high": 3}, "l2": {"low": 1}, "k": {"low": 1, "high": 2},
                        "features": {"text": {"high": 9}, "words": {"choices": [1]}}, "optim": None, "k2": None}) == {
        "features.text": {"low": 0, "high": 9}, "l2": {"low": 1}, "k": {"low": 1, "high": 2},
        "features.words": {"choices": [1]}}
    assert flat_search({"optim.epochs": {"low": 1, "high": 2}, "l2": {"low": 1, "high": 2}, "optim": None}) == {
        "l2": {"low": 1, "high": 2}}


def test_a_range_for_a_setting_of_another_loss_waits_for_that_loss():
    head = TwoTowerSettings(search={"loss.temperature": RangeSettings(0.1, 0.2), "dropout": RangeSettings(0, 0.5)})
    softmax, bce = ModelConfig(head=head, **TOWER), ModelConfig(head=head, **TOWER | {"loss": BceSettings()})
    assert search_space(softmax).keys() == {"loss.temperature", "dropout"}
    assert search_space(bce).keys() == {"dropout"}
    assert list(search_problems(bce)) == []


def test_proposed_values_are_set_and_their_problems_reported():
    config = ModelConfig(head=TwoTowerSettings(search={"dropout": RangeSettings(0, 0.5)}), **TOWER)
    changed, messages = with_values(config, {"dropout": 0.25, "optim.learning_rate": 0.5, "loss.temperature": 2})
    assert messages == []
    assert (changed.head.dropout, changed.optim.learning_rate, changed.loss.temperature) == (0.25, 0.5, 2.0)
    assert changed.head.search == {}
    assert (config.head.dropout, config.optim.learning_rate) == (0.5, None)
    assert with_values(config, {"dropout": 2.0, "optim.epochs": 0})[1] == [
        "dropout=2.0: must be at most 0.99", "optim.epochs=0: must be at least 1"]


def test_saved_settings_have_no_search_space_and_are_read_back():
    near = ModelConfig(head=ItemKnnSettings(search={"k": RangeSettings(1, 9)}))
    config = ModelConfig(head=FusionSettings(members={"near": near, "ease": ModelConfig(head=EaseSettings())}))
    assert tuned_parts(config).keys() == {"near"}
    bare = without_search(config)
    assert bare.head.members["near"].head.search == {}
    for each in (config, bare):
        builder = Builder(CONFIG_GROUPS)
        assert builder.settings(ModelConfig, to_plain(each)) == each
        assert builder.problems == []
    old = to_plain(bare)
    del old["head"]["search"], old["head"]["members"]["near"]["head"]["search"]
    assert Builder(CONFIG_GROUPS).settings(ModelConfig, old) == bare
