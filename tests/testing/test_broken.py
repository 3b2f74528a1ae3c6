"""Each check of the conformance suites catches a part with one fault."""

import re

import pytest

from llmrec_cli.settings.encoder import ScratchSettings, TfIdfSettings
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.testing import adversaries, encoders, groups, heads, losses
from llmrec_cli.testing.shop import make_shop
from llmrec_cli.testing.suite import broken, promise, require_all
from tests.testing import broken as parts

HEADS = [
    (heads.scores_are_finite_float32_of_every_query_with_every_item, parts.Doubles),
    (heads.scores_differ_between_items_and_between_users, parts.Impersonal),
    (heads.a_query_without_a_history_gets_finite_scores, parts.DividesByTheHistory),
    (heads.scores_do_not_depend_on_the_other_queries, parts.CentresTheBlock),
    (heads.scores_do_not_depend_on_what_is_left_out_of_the_list, parts.ReadsWhatIsSeen),
    (heads.scoring_twice_gives_the_same_bits, parts.Counts),
    (heads.scoring_leaves_the_queries_as_they_are, parts.WritesIntoTheHistory),
    (heads.values_and_ages_of_interactions_change_the_scores, parts.ReadsNoWeights),
    (heads.fitting_twice_with_a_seed_gives_the_same_bits, parts.Unseeded),
    (heads.a_saved_head_scores_the_same_bits_from_its_folder_alone, parts.ForgetsTheScale),
    (heads.a_new_user_gets_the_scores_of_a_known_user_with_the_same_history, parts.KnowsTheUser),
    (heads.a_new_user_is_recommended_what_goes_with_the_history, parts.WorstFirst),
    (heads.added_items_get_scores_and_leave_those_of_the_others_alone, parts.RescalesWhenItemsCome),
    (heads.an_added_item_is_scored_by_what_is_known_of_it_or_is_never_ahead, parts.NewItemsFirst),
    (heads.texts_are_answered_with_scores_of_their_own, parts.OneAnswer),
    (heads.making_lists_does_not_change_what_is_scored_next, parts.Counts),
    (heads.what_validation_chose_can_be_fitted_without_validation, parts.ChoosesAgain),
    (heads.stated_memory_is_at_least_half_of_what_is_learned, parts.StatesNothing),
    (heads.stated_memory_is_at_least_half_of_what_is_learned, parts.StatesAThird),
    (groups.scores_of_groups_are_finite_and_do_not_depend_on_the_other_queries, parts.CountsGroups),
    (groups.a_group_of_one_gets_its_members_list, parts.WorstFirstForGroups),
    (groups.members_count_once_in_any_order_and_unknown_ones_not_at_all, parts.ByPlace),
    (groups.a_group_of_unknown_members_gets_finite_scores, parts.DividesByTheMembers),
    (groups.users_and_groups_in_one_block_get_the_scores_that_they_get_apart, parts.OneOrTheOther),
    (groups.people_of_one_taste_are_recommended_what_goes_with_it, parts.WorstFirstForGroups)]
LOSSES = [
    (losses.a_higher_score_of_the_chosen_costs_less_and_of_another_item_more, parts.Rewards),
    (losses.excluded_candidates_cost_nothing_whatever_their_score, parts.CountsTheExcluded),
    (losses.everything_excluded_leaves_a_finite_loss, parts.MeanOfNothing),
    (losses.a_weight_of_two_is_the_row_twice, parts.Weightless),
    (losses.choices_and_positives_against_negatives_are_the_same, parts.TwoSums),
    (losses.parts_of_a_step_add_up_to_it, parts.ForgetsTheShare),
    (losses.a_loss_over_the_catalogue_is_that_of_the_products, parts.ForgetsTheChance),
    (losses.the_expected_value_costs_least, parts.ExpectsMore),
    (losses.a_negative_costs_what_the_value_0_does, parts.HalfANegative),
    (losses.positions_learn_from_targets_and_shared_negatives, parts.ForgetsTheWeights),
    (losses.a_loss_of_texts_pulls_items_of_the_same_user_together, parts.OwnTarget)]
ENCODERS = [
    (encoders.an_encoder_that_must_be_pretrained_is_refused, parts.Unready),
    (encoders.vectors_are_finite_float32_of_the_stated_size, parts.DoubleVectors),
    (encoders.a_text_has_one_vector_whatever_comes_with_it, parts.CentresTexts),
    (encoders.different_texts_have_different_vectors, parts.OneVector),
    (encoders.a_loaded_encoder_gives_the_same_vectors_and_identity, parts.ForgetsItsScale),
    (encoders.the_identity_changes_with_the_vectors_and_only_then, parts.OneIdentity)]
ADVERSARIES = [
    (adversaries.the_loss_is_a_finite_number_that_reaches_every_parameter, parts.Detached),
    (adversaries.a_perturbation_costs_more_than_none, parts.Harmless),
    (adversaries.the_tensors_that_it_is_given_stay_as_they_are, parts.InPlace),
    (adversaries.the_same_random_stream_gives_the_same_loss, parts.OwnDice)]


@pytest.fixture(scope="module")
def club(tmp_path_factory):
    """The tiny shop with groups, and TF-IDF for texts."""
    return make_shop(tmp_path_factory.mktemp("club"), groups=True)


def case_of(club, implementation):
    return heads.HeadCase(club, ModelConfig(head=parts.head(implementation)))


def name_of(value):
    return promise(value) if not isinstance(value, type) else value.__name__


@pytest.mark.parametrize(("check", "fault"), HEADS, ids=name_of)
def test_a_broken_head_is_caught(club, check, fault):
    assert broken([check], case_of(club, fault))


def test_an_exception_of_a_head_is_named_with_its_type_and_line(club):
    class Raises(parts.Sound):
        def score_users(self, queries):
            raise KeyError("stock")

    case = case_of(club, parts.Sound)
    case.__dict__["head"] = Raises(case.config)
    (problem,) = broken([heads.scoring_twice_gives_the_same_bits], case)
    assert re.search(r"KeyError in test_broken\.py, line \d+: 'stock'", problem)


def test_a_sound_head_passes_every_check(club):
    require_all({"sound": case_of(club, parts.Sound)}, [*heads.HEAD_CHECKS, *groups.GROUP_CHECKS])


@pytest.mark.parametrize(("check", "fault"), LOSSES, ids=name_of)
def test_a_broken_loss_is_caught(check, fault):
    assert broken([check], losses.LossCase(parts.loss(fault, parts.LOSSES[fault])))


def test_a_loss_with_a_false_claim_is_caught():
    check = losses.a_loss_is_of_the_class_that_it_says_it_works_with
    assert broken([check], losses.LossCase(parts.BprOfValues()))


@pytest.mark.parametrize(("check", "fault"), ENCODERS, ids=name_of)
def test_a_broken_encoder_is_caught(check, fault):
    assert broken([check], encoders.EncoderCase(parts.encoder(fault)))


@pytest.mark.slow
def test_an_encoder_with_other_vectors_in_another_process_is_caught():
    check = encoders.another_process_gives_the_same_vectors_and_identity
    assert broken([check], encoders.EncoderCase(TfIdfSettings())) == []
    assert broken([check], encoders.EncoderCase(parts.OfThisProcessSettings()))


def test_an_encoder_that_accepts_random_weights_is_caught():
    class Opens(encoders.EncoderCase):
        def open(self):
            return None

    assert broken([encoders.an_encoder_that_must_be_pretrained_is_refused], Opens(ScratchSettings()))


@pytest.mark.parametrize(("check", "fault"), ADVERSARIES, ids=name_of)
def test_a_broken_adversary_is_caught(check, fault):
    assert broken([check], adversaries.AdversaryCase(parts.adversary(fault)))


def test_an_adversary_without_a_known_perturbation_is_caught():
    assert broken([adversaries.it_says_what_it_perturbs], adversaries.AdversaryCase(parts.PerturbsAll()))


def test_every_check_has_a_fault_that_it_catches():
    caught = {check for check, _ in (*HEADS, *LOSSES, *ENCODERS, *ADVERSARIES)} | {
        losses.a_loss_is_of_the_class_that_it_says_it_works_with, adversaries.it_says_what_it_perturbs,
        encoders.another_process_gives_the_same_vectors_and_identity}
    assert caught == {*heads.HEAD_CHECKS, *groups.GROUP_CHECKS, *losses.LOSS_CHECKS, *encoders.ENCODER_CHECKS,
                      *adversaries.ADVERSARY_CHECKS}
